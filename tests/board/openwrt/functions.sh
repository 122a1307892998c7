# shellcheck shell=sh
# Stands in for OpenWrt's /lib/functions.sh, as far as our scripts use it. The lines of a UCI file are words of the shell.

config_load() {
	count=0
	eval "$(set | sed -n 's/^\(CONFIG_[A-Za-z0-9_]*\)=.*/unset \1/p')"
	# shellcheck source=/dev/null
	[ ! -e "$EDGEMD_ROOT/etc/config/$1" ] || . "$EDGEMD_ROOT/etc/config/$1"
}

config() {
	count=$((count + 1)) at=${2:-cfg$count}
	CONFIG_SECTIONS="$CONFIG_SECTIONS $at"
	eval "CONFIG_${at}_TYPE=\$1"
}

option() {
	eval "CONFIG_${at}_$1=\$2"
}

list() {
	length=0
	eval "length=\$((\${CONFIG_${at}_$1_LENGTH:-0} + 1))"
	eval "CONFIG_${at}_$1_LENGTH=$length CONFIG_${at}_$1_ITEM$length=\$2"
	eval "CONFIG_${at}_$1=\"\${CONFIG_${at}_$1:+\$CONFIG_${at}_$1 }\$2\""
}

config_get() {
	eval "$1=\${CONFIG_$2_$3:-\$4}"
}

config_get_bool() {
	config_get found "$2" "$3" "$4"
	# shellcheck disable=SC2154 # it was found
	case $found in
	1 | on | true | yes | enabled) found=1 ;;
	0 | off | false | no | disabled) found=0 ;;
	*) found=$4 ;;
	esac
	eval "$1=\$found"
}

# config_foreach FUNCTION TYPE [WORD…]
config_foreach() {
	function=$1 type=$2
	shift 2
	for each in $CONFIG_SECTIONS; do
		config_get of "$each" TYPE
		# shellcheck disable=SC2154 # likewise
		[ "$of" != "$type" ] || "$function" "$each" "$@"
	done
}

# config_list_foreach SECTION OPTION FUNCTION [WORD…]
config_list_foreach() {
	config_get items "$1" "$2_LENGTH" 0
	name="$1" option="$2" call="$3"
	shift 3
	item=1
	# shellcheck disable=SC2154 # likewise
	while [ "$item" -le "$items" ]; do
		config_get one "$name" "${option}_ITEM$item"
		# shellcheck disable=SC2154 # likewise
		"$call" "$one" "$@"
		item=$((item + 1))
	done
}

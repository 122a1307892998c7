# shellcheck shell=sh
# Stands in for OpenWrt's jshn.sh: one object in one object, with strings in it.

json_load() {
	case $1 in
	'{ '*' }') json=$1 ;;
	*) return 1 ;;
	esac
}

json_select() {
	case $json in
	"{ \"$1\": {"*) ;;
	*) return 1 ;;
	esac
}

json_get_vars() {
	for key in "$@"; do
		eval "$key=\$(echo \"\$json\" | sed -n \"s/.*\\\"$key\\\": *\\\"\\([^\\\"]*\\)\\\".*/\\1/p\")"
	done
}

json_cleanup() {
	json=
}

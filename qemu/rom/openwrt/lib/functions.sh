# shellcheck shell=sh
# OpenWrt's functions.sh, as far as the package's scripts ask for it.

# shellcheck source=tests/board/openwrt/functions.sh
. /lib/functions/uci.sh

# The last step of an installation.
default_postinst() {
    if ! grep -qs '^edgemd:' /etc/passwd; then
        echo "edgemd:x:453:453:edgemd:/var/run/edgemd:/bin/false" >>/etc/passwd
        echo "edgemd:x:453:" >>/etc/group
    fi
    for script in /etc/uci-defaults/*; do
        # shellcheck source=/dev/null
        [ ! -f "$script" ] || { (. "$script") && rm "$script"; }
    done
    /etc/init.d/edgemd enable
    /etc/init.d/edgemd start
}

#!/bin/sh
# Makes the ordinary users the tests run as; run as root, as often as you like.
#
#   rbuild-test        has ranges of subordinate ids: the normal rootless user
#   rbuild-test-nosub  has none
set -eu

add_user() {
    getent passwd "$1" >/dev/null || useradd --create-home --shell /bin/sh "$1"
}

# First id above every range anybody has.
free_id() {
    cat /etc/subuid /etc/subgid 2>/dev/null |
        awk -F: 'BEGIN { free = 100000 } $2 + $3 > free { free = $2 + $3 } END { print free }'
}

touch /etc/subuid /etc/subgid
add_user rbuild-test
add_user rbuild-test-nosub

if ! grep -q '^rbuild-test:' /etc/subuid || ! grep -q '^rbuild-test:' /etc/subgid; then
    first=$(free_id)
    last=$((first + 65535))
    usermod --add-subuids "$first-$last" --add-subgids "$first-$last" rbuild-test
fi
# useradd of some distributions hands out ranges by itself.
sed -i '/^rbuild-test-nosub:/d' /etc/subuid /etc/subgid

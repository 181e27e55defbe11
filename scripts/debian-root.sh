#!/bin/bash
# debian-root.sh ARCHITECTURE DIRECTORY PACKAGE… - unpacks Debian packages of any architecture.
#
# Makes DIRECTORY the root of a Debian system that holds the packages and what they depend on.
# Their maintainer scripts do not run, so it needs neither root nor an emulator, and this machine's
# own dpkg never hears of the other architecture: apt works on lists and a state of its own, kept in
# DIRECTORY.apt, with this machine's sources, keys and proxies.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: ${0##*/} ARCHITECTURE DIRECTORY PACKAGE…" >&2
    exit 2
fi
architecture=$1 root=$2
shift 2

apt=$(realpath -m "$root").apt
rm -rf "$root" "$apt"
mkdir -p "$root"/usr/{bin,sbin,lib} "$apt"/{lists,cache/archives}/partial
: > "$apt/status"

# Root's apt downloads as `_apt`, which cannot enter a private home directory.
options=(
    -o APT::Architecture="$architecture"
    -o APT::Architectures="$architecture"
    -o APT::Sandbox::User="$(id -un)"
    -o Dir::State::Lists="$apt/lists"
    -o Dir::State::Status="$apt/status"
    -o Dir::Cache="$apt/cache"
    -o Acquire::Languages=none
    -o Acquire::Retries=3
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Debug::NoLocking=true
)

# A source that this machine has beside Debian's may not know the architecture, and a mirror may be
# in the middle of an update: what counts is whether the packages can be had.
if ! apt-get "${options[@]}" -q update > "$apt/log" 2>&1; then
    echo "${0##*/}: not all package lists of $architecture could be read" >&2
fi
if ! apt-get "${options[@]}" -q --no-install-recommends --download-only --yes \
        install "$@" >> "$apt/log" 2>&1; then
    cat "$apt/log" >&2
    echo "${0##*/}: the packages $* of $architecture could not be downloaded" >&2
    exit 1
fi

# Debian's /bin is /usr/bin; some of its packages still say /bin.
for name in bin sbin lib; do
    ln -s "usr/$name" "$root/$name"
done
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" |
        tar --extract --directory "$root" --no-same-owner --keep-directory-symlink
done
rm -rf "$apt"

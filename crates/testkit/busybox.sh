#!/bin/sh
# Puts Debian's static busybox of an architecture at a path:
#
#   busybox.sh ARCH DEST        ARCH as Debian names it: amd64, arm64, armhf, i386, riscv64 ...
#
# Packages are kept below ${RBUILD_TEST_CACHE:-/var/tmp/rbuild-test-cache}; the machine's own list of
# architectures is not touched.
set -eu

arch=$1
dest=$2
cache=${RBUILD_TEST_CACHE:-/var/tmp/rbuild-test-cache}/busybox-$arch

if ! [ -x "$cache/busybox" ]; then
    work=$cache.$$
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/root"
    : >"$work/state/status"
    set -- -qq \
        -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
        -o Dir::State="$work/state" -o Dir::State::status="$work/state/status" \
        -o Dir::Cache="$work/cache" -o APT::Sandbox::User=
    # One of several lists may be in the middle of a mirror's update; the download says if it matters.
    apt-get "$@" update || true
    (cd "$work" && apt-get "$@" download busybox-static)
    dpkg-deb -x "$work"/busybox-static_*.deb "$work/root"
    mkdir -p "$cache"
    # Debian 12 has it in /bin, later ones in /usr/bin.
    found=$(find "$work/root" -type f -name busybox -perm -100 | head -n 1)
    cp "$found" "$cache/busybox.new"
    chmod 755 "$cache/busybox.new"
    mv "$cache/busybox.new" "$cache/busybox"
fi
mkdir -p "$(dirname "$dest")"
cp "$cache/busybox" "$dest"

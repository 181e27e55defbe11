#!/bin/bash
# debian.sh BASES - makes the OCI layout BASES/debian, a Debian with apt and a repository of its own.
#
# The image, for amd64 and arm64, has the packages that apt needs, unpacked and marked as installed, and
# in /repository those that a test installs: nothing is fetched from anywhere while the tests run. Its
# packages' maintainer scripts do not run here, so making it needs neither root nor an emulator.
set -euo pipefail

bases=$(realpath "$1")
scripts=$(realpath "$(dirname "$0")/../../scripts")
layout=$bases/debian
version=$(cat "$0" "$scripts/oci-image.sh" | sha256sum)
[ "$(cat "$layout.version" 2> /dev/null)" != "$version" ] || exit 0

exec 9> "$bases/debian.lock"
flock 9
[ "$(cat "$layout.version" 2> /dev/null)" != "$version" ] || exit 0

installed=(apt base-files base-passwd bash bsdutils coreutils dash debconf debianutils diffutils dpkg
    findutils grep gzip hostname init-system-helpers libc-bin libssl3 login mawk passwd perl-base sed
    sysvinit-utils tar util-linux)
offered=(ca-certificates openssl)

work=$(mktemp -d "$bases/debian.XXXXXX")
trap 'rm -rf "$work"' EXIT

fetch() {
    local architecture=$1 apt=$work/apt-$1
    mkdir -p "$apt"/{lists,cache/archives}/partial
    : > "$apt/status"
    local options=(
        -o APT::Architecture="$architecture"
        -o APT::Architectures="$architecture"
        -o APT::Sandbox::User="$(id -un)"
        -o Dir::State::Lists="$apt/lists"
        -o Dir::State::Status="$apt/status"
        -o Dir::Cache="$apt/cache"
        -o Acquire::Languages=none
        -o Acquire::Retries=3
        -o Debug::NoLocking=true
    )
    # What counts is whether the packages can be had.
    apt-get "${options[@]}" -q update > "$apt/log" 2>&1 || true
    apt-get "${options[@]}" -q --no-install-recommends --download-only --yes \
        install "${installed[@]}" "${offered[@]}" >> "$apt/log" 2>&1 || { cat "$apt/log" >&2; return 1; }
}

make_root() {
    local architecture=$1 root=$work/root-$1 package name file
    fetch "$architecture"
    mkdir -p "$root"/usr/{bin,sbin,lib} "$root/repository" "$root/var/lib/dpkg/info"
    for name in bin sbin lib; do
        ln -s "usr/$name" "$root/$name"
    done
    for package in "$work/apt-$architecture"/cache/archives/*.deb; do
        name=$(dpkg-deb -f "$package" Package)
        if [[ " ${offered[*]} " == *" $name "* ]]; then
            cp "$package" "$root/repository/"
            {
                dpkg-deb -f "$package"
                echo "Filename: ./$(basename "$package")"
                echo "Size: $(stat -c %s "$package")"
                echo "SHA256: $(sha256sum < "$package" | cut -d ' ' -f 1)"
                echo
            } >> "$root/repository/Packages"
            continue
        fi
        dpkg-deb --fsys-tarfile "$package" |
            tar --extract --directory "$root" --no-same-owner --keep-directory-symlink
        dpkg-deb -f "$package" | sed 's/^Package: .*/&\nStatus: install ok installed/' \
            >> "$root/var/lib/dpkg/status"
        echo >> "$root/var/lib/dpkg/status"
        file=$name
        [ "$(dpkg-deb -f "$package" Multi-Arch)" != same ] || file=$name:$architecture
        dpkg-deb --fsys-tarfile "$package" | tar --list | sed 's/^\.//; s/\(.\)\/$/\1/; s/^\/$/\/./' \
            > "$root/var/lib/dpkg/info/$file.list"
    done
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    : > "$root/var/lib/dpkg/available"
    mkdir -p "$root"/etc/apt/{apt.conf.d,preferences.d,sources.list.d} "$root"/proc "$root"/dev "$root"/sys
    echo 'deb [trusted=yes] file:/repository ./' > "$root/etc/apt/sources.list"
    echo 'Acquire::Languages "none";' > "$root/etc/apt/apt.conf.d/languages"
    chmod 1777 "$root/tmp"
    rm -rf "$root"/usr/share/{doc,info,locale,man}
}

echo "making the base image debian for amd64 arm64" >&2
pids=()
for architecture in amd64 arm64; do
    make_root "$architecture" 9>&- &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
"$scripts/oci-image.sh" --cmd sh "$layout" latest \
    linux/amd64="$work/root-amd64" linux/arm64="$work/root-arm64"
echo "$version" > "$layout.version"

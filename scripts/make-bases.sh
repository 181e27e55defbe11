#!/bin/bash
# make-bases.sh DIRECTORY - makes the base images of the tests and the demo from Debian packages.
#
#   DIRECTORY/busybox        OCI layout, tag latest: linux/amd64, linux/arm64, linux/arm/v7
#   DIRECTORY/arm32v7-base   tag `tag`, for linux/arm/v7 alone
#   DIRECTORY/amd64-base     tag `tag`, for linux/amd64 alone
#   DIRECTORY/programs/busybox-ARCHITECTURE/busybox
#                            Debian's busybox for amd64, arm64 and armhf as files
#   DIRECTORY/golang         tag latest, the three platforms: Debian with its Go
#   DIRECTORY/registry/data  what docker-registry serves them from, as library/busybox,
#                            arm32v7/base, amd64/base and library/golang
#
# `make-bases.sh --busybox DIRECTORY` makes the first alone, and no registry.
#
# What is there and was made by this version of the scripts is kept.
set -euo pipefail
shopt -s inherit_errexit

names="busybox golang"
if [ "${1-}" = --busybox ]; then
    names=busybox
    shift
fi
if [ $# -ne 1 ]; then
    echo "usage: ${0##*/} [--busybox] DIRECTORY" >&2
    exit 2
fi
scripts=$(realpath "$(dirname "$0")")
mkdir -p "$1"
# A checkout below a directory that passes its group on makes the same images.
chmod g-s "$1"
bases=$(realpath "$1")
# shellcheck source=scripts/registry.bash
. "$scripts/registry.bash"

# Two runs at once, as of `make demo` beside `make test`, make them once.
exec 9> "$bases/lock"
flock 9

path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
architectures="amd64 arm64 armhf"

platform() {
    case $1 in
        armhf) echo linux/arm/v7 ;;
        *) echo "linux/$1" ;;
    esac
}

# in_parallel FUNCTION: calls it for each architecture, all at once.
in_parallel() {
    local pids=() pid architecture
    for architecture in $architectures; do
        "$1" "$architecture" 9>&- &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
}

make_busybox() {
    "$scripts/../crates/testkit/busybox.sh" "$1" "$roots/busybox-$1"
}

# Only what building a program takes: that is less than half of Debian's package.
make_golang() {
    local root=$roots/golang-$1 go
    "$scripts/debian-root.sh" "$1" "$root" golang-go dash coreutils base-files base-passwd
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    rm -rf "$root"/usr/share/{doc,info,lintian,locale,man} "$root"/usr/lib/*/gconv
    mkdir -p "$root/go"

    go=$(cd "$root/usr/lib/go" && pwd -P)
    find "$go/pkg/tool" -type f -not -name asm -not -name buildid -not -name compile \
        -not -name link -not -name pack -delete
    rm -rf "$go"/pkg/*/cmd "$root"/usr/share/go-*/{api,misc,test,src/cmd}
    find "$root"/usr/share/go-*/src -name '*_test.go' -delete
    find "$root"/usr/share/go-*/src -name testdata -prune -exec rm -r {} +
}

roots_of() {
    local architecture
    for architecture in $architectures; do
        echo "$(platform "$architecture")=$roots/$1-$architecture"
    done
}

layouts_of_busybox() {
    local architecture
    for architecture in $architectures; do
        install -D "$roots/busybox-$architecture/bin/busybox" \
            "$bases/programs/busybox-$architecture/busybox"
    done
    mapfile -t images < <(roots_of busybox)
    "$scripts/oci-image.sh" --cmd sh "$bases/busybox" latest "${images[@]}"
    "$scripts/oci-image.sh" --cmd sh "$bases/amd64-base" tag "${images[0]}"
    "$scripts/oci-image.sh" --cmd sh "$bases/arm32v7-base" tag "${images[2]}"
}

layouts_of_golang() {
    mapfile -t images < <(roots_of golang)
    "$scripts/oci-image.sh" --env PATH="$path" --env GOPATH=/go --cmd sh \
        "$bases/golang" latest "${images[@]}"
}

# push LAYOUT TAG REPOSITORY
push() {
    skopeo --insecure-policy copy --quiet --all --dest-tls-verify=false \
        "oci:$bases/$1:$2" "docker://$registry/$3:$2"
}

version=$(cat "$scripts"/{make-bases,debian-root,oci-image}.sh \
    "$scripts/../crates/testkit/busybox.sh" | sha256sum)
roots=$(mktemp -d "$bases/roots.XXXXXX")
trap 'stop_registry "$bases/registry"; rm -rf "$roots"' EXIT

is_current() { [ "$(cat "$bases/$1.version" 2> /dev/null)" = "$version" ]; }

for name in $names; do
    is_current "$name" && continue
    echo "making the base image $name for $architectures" >&2
    in_parallel "make_$name"
    "layouts_of_$name"
    rm -f "$bases/registry.version"
    echo "$version" > "$bases/$name.version"
done

if [[ $names == *golang* ]] && ! is_current registry; then
    rm -rf "$bases/registry"
    start_registry "$bases/registry" 9>&-
    push busybox latest library/busybox
    push amd64-base tag amd64/base
    push arm32v7-base tag arm32v7/base
    push golang latest library/golang
    echo "$version" > "$bases/registry.version"
fi

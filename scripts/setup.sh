#!/bin/bash
# setup.sh [PACKAGE...] - installs what building, testing and the demo need, on Debian and its derivatives,
# and the packages named.
#
# Does nothing, and needs no root, where nothing is missing; else it uses apt, with sudo if need be.
set -euo pipefail
scripts=$(dirname "$0")

packages=(
    # building: the assembler of `ring` and the C of `zstd`; libFuzzer is written in C++
    gcc g++ libc6-dev make
    # what rbuild uses: newuidmap, private networks, and emulators
    uidmap passt slirp4netns qemu-user-static
    # base images and the demo
    busybox-static jq docker-registry skopeo
    # tests: peers that read what rbuild wrote, the image specification's schemas, tools
    buildah umoci podman docker.io python3-jsonschema python3-seccomp bzip2 git iproute2
    openssh-client openssh-server procps xz-utils zstd
    "$@"
)

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2> /dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        echo "setup.sh: needs root for: $*" >&2
        echo "setup.sh: run it as root once, or install sudo" >&2
        return 1
    fi
}

# Debian starts a daemon as soon as its package is there; nobody asked for a registry on port 5000.
no_daemons=/usr/sbin/policy-rc.d
forbid_daemons() {
    [ ! -e $no_daemons ] || return 0
    trap 'as_root rm -f $no_daemons' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee $no_daemons > /dev/null
    as_root chmod +x $no_daemons
}

if [ ${#missing[@]} -gt 0 ]; then
    echo "setup.sh: installing ${missing[*]}" >&2
    forbid_daemons
    if ! as_root apt-get -q update; then
        echo "setup.sh: not all package lists could be read; trying with those that are there" >&2
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q install --yes --no-install-recommends "${missing[@]}"
    if [ -d /run/systemd/system ]; then
        for daemon in docker-registry:docker-registry docker.io:docker; do
            [[ " ${missing[*]} " != *" ${daemon%:*} "* ]] ||
                as_root systemctl disable --quiet "${daemon#*:}"
        done
    fi
fi

# Root runs tests and demo as an ordinary user; everybody else is one.
if [ "$(id -u)" = 0 ]; then
    sh "$scripts/../crates/testkit/setup-users.sh"
fi

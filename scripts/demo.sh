#!/bin/bash
# demo.sh RBUILD BASES - shows what rbuild does: three platforms, pushed by an ordinary user.
#
# Uses the rbuild in the file RBUILD, and keeps its base image in the directory BASES. Everything else
# that it makes is in a temporary directory, and gone at the end.
set -euo pipefail
shopt -s inherit_errexit

if [ $# -ne 2 ]; then
    echo "usage: ${0##*/} RBUILD BASES" >&2
    exit 2
fi
scripts=$(realpath "$(dirname "$0")")
# shellcheck source=scripts/registry.bash
. "$scripts/registry.bash"

"$scripts/make-bases.sh" --busybox "$2"
directory=$(mktemp -d)
chmod 0711 "$directory"
home=$directory/home
install -D "$1" "$directory/bin/rbuild"
cp -r "$scripts/../examples/hello" "$directory/hello"
mkdir "$home"

# Root shows it as the ordinary user of the tests, whom setup.sh made.
as_user=()
if [ "$(id -u)" = 0 ]; then
    chown -R rbuild-test: "$home"
    as_user=(setpriv --reuid=rbuild-test --regid=rbuild-test --init-groups)
fi

clean_up() {
    stop_registry "$directory"
    # An ordinary user removes files of subordinate ids as root of a namespace.
    rm -rf "$directory" 2> /dev/null || unshare --map-root-user --map-auto rm -rf "$directory"
}
trap clean_up EXIT

# Port 5000 if it is free: it is the one that people know.
start_registry "$directory" 5000 2> /dev/null || start_registry "$directory"
skopeo --insecure-policy copy --quiet --all --dest-tls-verify=false \
    "oci:$2/busybox:latest" "docker://$registry/library/busybox:latest"
mkdir "$directory/config"
printf '[registry."docker.io"]\nmirrors = ["%s"]\n' "$registry" > "$directory/config/config.toml"

image=$registry/team/hello:1.0
platforms="linux/amd64 linux/arm64 linux/arm/v7"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

rbuild() {
    "${as_user[@]}" env -i PATH="$directory/bin:/usr/local/bin:/usr/bin:/bin" HOME="$home" \
        RBUILD_CONFIG="$directory/config/config.toml" rbuild "$@"
}

cd "$directory/hello"
say "The Dockerfile"
cat Dockerfile
say "\$ rbuild --platform ${platforms// /,} -t $image --push .     # as $("${as_user[@]}" id -un)"
rbuild --platform "${platforms// /,}" -t "$image" --push .
say "What the registry has"
skopeo --insecure-policy inspect --raw --tls-verify=false "docker://$image" | jq .
for platform in $platforms; do
    say "\$ rbuild run --platform $platform $image"
    rbuild run --platform "$platform" "$image"
done
say "The same build again"
time rbuild --platform "${platforms// /,}" -t "$image" --push .

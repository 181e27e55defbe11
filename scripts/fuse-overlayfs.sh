#!/bin/bash
# fuse-overlayfs.sh [PROGRAM] - whether a fuse-overlayfs leaves the layers that the kernel's overlayfs leaves.
#
# Every case is a layer and a step on it. Prints what the two layers show in the end where it is not the same (`<` the
# kernel's, `>` PROGRAM's), and ends with 1 then. docs/isolation.md has what came of it. Needs root, /dev/fuse and a
# TMPDIR that carries overlayfs.
set -euo pipefail
program=${1:-fuse-overlayfs}
if ! program=$(command -v "$program"); then
    echo "fuse-overlayfs.sh: there is no ${1:-fuse-overlayfs}" >&2
    exit 2
fi

if [ -z "${FUSE_OVERLAYFS_ALONE:-}" ]; then
    FUSE_OVERLAYFS_ALONE=1 exec unshare --mount "$0" "$program"
fi
place=$(mktemp -d)
trap 'cd /; umount --lazy "$place"/{kernel,fuse}/shown 2> /dev/null || true; rm -rf "$place"' EXIT
cd "$place"
umask 022

show() {
    find . -mindepth 1 ! -name '.wh..*opq' -printf '%P %y %m\n' | sort
    find . -type f ! -name '.wh..*opq' | sort | xargs --no-run-if-empty md5sum
}

# layer_of WAY STEP - does STEP on `base`, and says what its layer shows on it.
layer_of() {
    mkdir -p "$1"/{upper,work,shown}
    local options="lowerdir=base,upperdir=$1/upper,workdir=$1/work"
    case $1 in
        kernel) mount -t overlay -o "$options" overlay "$1/shown" ;;
        fuse) timeout 10 "$program" -o "$options" "$1/shown" < /dev/null > /dev/null 2>&1 ;;
    esac
    (cd "$1/shown" && eval "$2") > /dev/null 2>&1 || true
    umount "$1/shown"
    mount -t overlay -o "ro,lowerdir=$1/upper:base" overlay "$1/shown"
    (cd "$1/shown" && show)
    umount "$1/shown"
    rm -rf "$1"
}

differ=0
# case_of NAME BASE STEP - tells whether the layers of STEP on BASE are the same.
case_of() {
    rm -rf base
    mkdir base
    (cd base && eval "$2")
    if ! difference=$(diff <(layer_of kernel "$3") <(layer_of fuse "$3")); then
        differ=$((differ + 1))
        printf '%s: %s; %s\n' "$1" "$2" "$3"
        grep '^[<>]' <<< "$difference" | sed 's/^/    /'
    fi
}

case_of 'a file with two names' 'echo 1 > one; ln one two' 'chmod 600 one; echo 2 >> one'
case_of 'a name less, then a change' 'echo 1 > top; ln top top2; ln top top3' 'chmod 600 top; rm top3; echo 2 >> top'
case_of 'a directory for a group' 'mkdir d; chmod 2775 d' 'touch d/f'
case_of 'a directory for everybody' 'mkdir d; chmod 1777 d' 'touch d/f'
case_of 'a directory for nobody else' 'mkdir d; chmod 700 d' 'touch d/f'
case_of 'the mode of a pipe' 'mkfifo p' 'chmod 600 p'
case_of 'a new pipe' '' 'mkfifo p'
case_of 'a directory made again' 'mkdir d; touch d/old' 'rm -rf d; mkdir -p d/new'
case_of 'a directory renamed' 'mkdir -p d/e; touch d/e/f' 'mv d x; mkdir d; touch d/g'
case_of 'a file for a directory' 'mkdir d; touch d/f f' 'rm -r d f; touch d; mkdir f'
case_of 'set-id bits' 'echo 1 > f; chmod 4755 f' 'chown 5:5 f; chmod 4711 f'
case_of 'a name like a mark' '' 'touch .wh.x'

[ "$differ" = 0 ] || { echo "$differ cases differ"; exit 1; }
echo 'no case differs'

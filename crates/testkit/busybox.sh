#!/bin/bash
# busybox.sh ARCHITECTURE DIRECTORY - makes DIRECTORY the root of a minimal Debian system.
#
# It holds Debian's busybox-static of that architecture (amd64, arm64, armhf, …), which is one file
# without dependencies, a link for each of its commands, and the few files that programs expect.
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: ${0##*/} ARCHITECTURE DIRECTORY" >&2
    exit 2
fi
root=$2
package=$root.package

"$(dirname "$0")/../../scripts/debian-root.sh" "$1" "$package" busybox-static
rm -rf "$root"
mkdir -p "$root"/{bin,dev,etc,home,proc,root,run,sys,usr/bin,var}
mkdir -m 1777 "$root/tmp" "$root/var/tmp"
chmod 0700 "$root/root"
mv "$package/bin/busybox" "$root/bin/"
rm -rf "$package"

# Asked of this machine's busybox: the other one would need an emulator to answer, and Debian builds
# the same commands for all architectures.
busybox --list | grep -vx busybox | while read -r command; do
    ln -s busybox "$root/bin/$command"
done
ln -s /bin/env "$root/usr/bin/env"

cat > "$root/etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
END
cat > "$root/etc/group" <<'END'
root:x:0:
daemon:x:1:
nogroup:x:65534:
END

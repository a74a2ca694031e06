#!/bin/bash
# Runs a command where the kernel starts programs for arm64 by qemu, as root. Only the command sees it: from Linux 6.7 on a user
# namespace has formats of its own. Needs bubblewrap and Debian's qemu-user-static. The image for arm64 by hand, slow:
#   emulated.sh mmdebstrap --mode=root --arch=arm64 --skip=check/qemu --variant=minbase \
#     --include=python3,python3-venv,python-is-python3,ca-certificates bookworm base.tar
#   emulated.sh buildah build --arch arm64 --isolation chroot --format docker --tag base .   # FROM scratch, ADD base.tar /
#   emulated.sh buildah build --arch arm64 --isolation chroot --format docker --build-arg PYTHON=localhost/base --tag mirrord .
set -euo pipefail
if [[ $1 == --inside ]]; then
  shift
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
  exec "$@"
fi
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
mkfifo "$folder/mapped" "$folder/apart"
# A /dev of its own: builds mount things on it.
unshare --user --mount --propagation private bash -c 'echo >"$0/apart"; read -r <"$0/mapped"; exec "$@"' "$folder" \
  bwrap --bind / / --dev /dev --proc /proc --unshare-pid --tmpfs /run --cap-add ALL "$(realpath "$0")" --inside "$@" &
read -r <"$folder/apart" || true
echo "0 0 65536" >"/proc/$!/uid_map"
echo "0 0 65536" >"/proc/$!/gid_map"
echo >"$folder/mapped"
wait $!

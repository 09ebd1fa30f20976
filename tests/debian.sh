#!/usr/bin/env bash
# Runs deploy/quickstart.sh and tests/run.sh, as the checked out commit has them, on a Debian release
# that begins with nothing but apt. Needs root and mmdebstrap.
#
#   tests/debian.sh RELEASE [ARGUMENT_OF_RUN_SH...]        RELEASE is bookworm or trixie
#
# The release is made in build/debian/RELEASE from the mirror that apt uses here, and stays there:
# the next run finds its packages installed and its compiler cache full, unless the directory is
# removed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' tests/debian.sh >&2; exit 2; }
# Mounts of a namespace are gone when its last process is.
[ -n "${SALIENT_OWN_MOUNTS-}" ] || SALIENT_OWN_MOUNTS=yes exec unshare --mount tests/debian.sh "$@"
release=$1
shift
root=$PWD/build/debian/$release

if [ ! -e "$root" ]; then
  mkdir -p build/debian
  rm -rf "$root.new"
  mirror=$(apt-get indextargets 'Created-By: Packages' 'Label: Debian' |
    sed -n '0,/^Repo-URI: /s/^Repo-URI: //p')
  mmdebstrap --quiet --variant=minbase --mode=root "$release" "$root.new" "$mirror"
  mv "$root.new" "$root"
fi

# The release reaches mirrors as this machine does. The environment goes along by itself.
cp -L /etc/resolv.conf "$root/etc/"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
apt-config dump Acquire::http::Proxy Acquire::https::Proxy > "$root/etc/apt/apt.conf.d/90proxy"
mkdir -p "$root/usr/local/share/ca-certificates"
cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates"

rm -rf "$root/salient"
git clone --quiet --no-hardlinks . "$root/salient"
for directory in proc sys dev; do mount --rbind "/$directory" "$root/$directory"; done
chroot "$root" env --chdir=/salient deploy/quickstart.sh
chroot "$root" env --chdir=/salient tests/run.sh "$@"

#!/usr/bin/env bash
# Builds the image from the Dockerfile without a container engine or a registry, as root:
#
#   apt-get install buildah mmdebstrap
#   deploy/build_image.sh [TAG]          default: salient:VERSION
#
# With an engine, `docker build -t salient .` does the same from the published base. Here the base
# is made from Debian's packages and named as the Dockerfile names it. The images are kept in
# build/image/store; at the end stands the command that writes an archive which
# `docker load` and containerd read.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$(sed -n 's/^project(salient VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
tag=${1:-salient:$version}
for tool in buildah mmdebstrap; do
  command -v "$tool" > /dev/null || { echo "build_image: $tool is not installed" >&2; exit 1; }
done

work=$PWD/build/image
mkdir -p "$work"
# Every time stamp in base and image is that of the commit, so that equal sources and packages
# give equal layers.
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2> /dev/null || echo 1700000000)
buildah=(buildah --root "$work/store" --runroot "$work/run" --storage-driver overlay)

if ! "${buildah[@]}" inspect --type image localhost/debian:bookworm-slim > /dev/null 2>&1; then
  mmdebstrap --quiet --variant=minbase --mode=root \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    bookworm "$work/base.tar"
  container=$("${buildah[@]}" from scratch)
  "${buildah[@]}" add --quiet "$container" "$work/base.tar" / > /dev/null
  "${buildah[@]}" config --cmd /bin/bash "$container"
  "${buildah[@]}" commit --quiet --timestamp "$SOURCE_DATE_EPOCH" "$container" \
    localhost/debian:bookworm-slim > /dev/null
  "${buildah[@]}" rm "$container" > /dev/null
  rm "$work/base.tar"
fi

# --format docker: an OCI image cannot carry a HEALTHCHECK.
"${buildah[@]}" bud --isolation chroot --pull-never --layers --format docker \
  --timestamp "$SOURCE_DATE_EPOCH" --label "org.opencontainers.image.version=$version" \
  --label "org.opencontainers.image.revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)" \
  --tag "localhost/$tag" --file Dockerfile .
"${buildah[@]}" images --format '{{.Name}}:{{.Tag}} {{.Size}}' "localhost/$tag"
echo "archive: ${buildah[*]} push localhost/$tag docker-archive:${tag%%:*}.img:localhost/$tag"

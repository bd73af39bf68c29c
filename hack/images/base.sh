#!/usr/bin/env bash
# Builds localhost/komputer-base, a Debian with Python, from Debian's packages, for machines without access to an image
# registry: the images are then built with BASE=localhost/komputer-base. Never publish it. Needs root, podman and
# debootstrap, and about a minute. An existing image is kept.
set -euo pipefail
image=localhost/komputer-base
podman image exists "$image" && exit
. /etc/os-release
read -r mirror < <(sed -nE 's#^(URIs: |deb )(http[^ ]*/debian)/?( .*)?$#\2#p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null) || true
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv "$VERSION_CODENAME" "$dir" ${mirror:+"$mirror"} >&2
tar -C "$dir" --exclude='./var/cache/apt/*' --exclude='./dev/*' -c . | podman import --quiet - "$image"

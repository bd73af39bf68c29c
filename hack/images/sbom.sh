#!/usr/bin/env bash
# Writes DIR/komputer.spdx.json and DIR/komputer-agent.spdx.json: all packages in the images built on this machine
# (make images), as SPDX documents, by syft.
set -euo pipefail
dir=$(mkdir -p "${1:?names the folder to write to}" && cd "$1" && pwd)
cd "$(dirname "$0")/../.."
syft=$(hack/kubernetes/build.sh syft)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for image in komputer komputer-agent; do
  podman save --quiet --format oci-archive -o "$work/$image.tar" "localhost/$image"
  SYFT_CHECK_FOR_APP_UPDATE=false "$syft" scan -q "oci-archive:$work/$image.tar" --source-name "$image" \
    -o "spdx-json=$dir/$image.spdx.json"
  rm "$work/$image.tar"
done

#!/usr/bin/env bash
# Builds all images on this machine: localhost/komputer and localhost/komputer-agent from images/. Their base image is built
# from Debian's packages, without an image registry. Needs root and podman, which is installed from Debian if possible.
#   build.sh save FILE   also builds the other images of a test node (DNS, volumes, Redis, the pause container) and writes
#                        all of them to an archive
set -euo pipefail
cd "$(dirname "$0")/../.."
packages=(podman runc netavark aardvark-dns uidmap catatonit debootstrap)
need() {
  dpkg-query -W "${packages[@]}" >/dev/null 2>&1 && return
  [[ $(id -u) == 0 ]] || { echo "images: ${packages[*]} must be installed, which needs root" >&2; exit 1; }
  echo "images: installing podman and debootstrap" >&2
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"
  } >/dev/null 2>&1 || { echo "images: podman and debootstrap could not be installed" >&2; exit 1; }
}
need
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/containers.conf" <<'END'
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
export CONTAINERS_CONF=$work/containers.conf

hack/images/base.sh >/dev/null
build() { # IMAGE CONTAINERFILE [CONTEXT]: uses this machine's certificates, which its proxy to package registries may need
  podman build --quiet --network host --volume /etc/ssl/certs:/etc/ssl/certs:ro --build-arg BASE=localhost/komputer-base \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" -f "$2" -t "$1" "${3:-.}" >"$work/build.log" 2>&1 \
    || { cat "$work/build.log" >&2; echo "images: $1 could not be built" >&2; exit 1; }
  echo "$1 $(podman image inspect --format '{{.Size}}' "$1" | awk '{printf "%.0f MB", $1 / 1e6}')"
}
build localhost/komputer images/komputer/Containerfile
build localhost/komputer-agent images/agent/Containerfile
if [[ ${1:-} == save ]]; then
  mkdir -p "$work/node"
  { read -r coredns; read -r provisioner; } < <(hack/kubernetes/build.sh coredns local-path-provisioner)
  cp "$coredns" "$provisioner" /usr/bin/catatonit "$work/node"
  for each in coredns:coredns local-path-provisioner:local-path-provisioner pause:catatonit; do
    program=${each#*:}
    printf 'FROM scratch\nCOPY %s /\nENTRYPOINT ["/%s"%s]\n' "$program" "$program" "$([[ $program != catatonit ]] || echo ', "-P"')" >"$work/Containerfile"
    build "localhost/node/${each%:*}" "$work/Containerfile" "$work/node"
  done
  printf 'ARG BASE\nFROM ${BASE}\nRUN apt-get update && apt-get install -y --no-install-recommends redis-server && %s\nUSER 1000:1000\n' \
    'ln -s redis-server /usr/bin/valkey-server && ln -s redis-cli /usr/bin/valkey-cli && rm -rf /var/lib/apt/lists/*' >"$work/Containerfile"
  build localhost/node/valkey "$work/Containerfile" "$work/node"
  rm -f "$2"
  podman save --quiet --multi-image-archive -o "$2" localhost/komputer{,-agent,-base} localhost/node/{coredns,local-path-provisioner,pause,valkey}
fi

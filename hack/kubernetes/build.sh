#!/usr/bin/env bash
# Builds the Kubernetes binaries of the tests, and syft, from the Go modules pinned beside this script, and prints the path
# of each BINARY, one per line: `build.sh kube-apiserver kubelet helm`. Binaries in the cache,
# ${XDG_CACHE_HOME:-~/.cache}/komputer, are not built again; an interrupted build leaves nothing there.
# `build.sh --check BINARY...` builds nothing and fails if one is missing. Without a cache, on two cores: the control plane
# takes 8 minutes, the others 7, syft 5.
set -euo pipefail
cd "$(dirname "$0")"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/komputer

locate() { # BINARY: sets module, package, version, target
  case $1 in
    kube-* | kubelet) module=. package=k8s.io/kubernetes/cmd/$1 ;;
    coredns) module=tools/coredns package=github.com/coredns/coredns ;;
    local-path-provisioner) module=tools/local-path package=github.com/rancher/local-path-provisioner ;;
    helm) module=tools/helm package=helm.sh/helm/v3/cmd/helm ;;
    syft) module=tools/syft package=github.com/anchore/syft/cmd/syft ;;
    *) echo "build.sh: unknown binary $1" >&2; exit 2 ;;
  esac
  version=$(sed -nE "s#^(require)?\s+(${package%/cmd/*}) v([^ ]+).*#\3#p" "$module/go.mod" | head -n 1)
  if [[ $module == . ]]; then target=$cache/kubernetes/$version/$1; else target=$cache/$1/$version/$1; fi
}

build() { # BINARY: uses the variables that locate has set
  command -v go >/dev/null || { echo "build.sh: Go is needed to build $1 $version and is not installed" >&2; exit 1; }
  mkdir -p "${target%/*}"
  exec 9>"${target%/*}/.lock"
  flock 9 # a concurrent build waits for the first one and uses its result
  [[ ! -x $target ]] || return 0
  echo "build.sh: building $1 $version" >&2
  local ldflags="-s -w" stamp=k8s.io/component-base/version
  if [[ $module == . ]]; then
    ldflags+=" -X $stamp.gitVersion=v$version -X $stamp.gitMajor=${version%%.*} -X $stamp.gitMinor=$(cut -d. -f2 <<<"$version")"
    ldflags+=" -X $stamp.gitTreeState=clean -X $stamp.gitCommit=$(printf '0%.0s' {1..40})"
  fi
  part=$(mktemp "${target%/*}/.$1.XXXXXX")
  trap 'rm -f "$part"' EXIT
  (cd "$module" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$ldflags" -o "$part" "$package")
  chmod 755 "$part"
  mv "$part" "$target"
}

check=
if [[ ${1:-} == --check ]]; then check=yes; shift; fi
for binary in "$@"; do
  locate "$binary"
  if [[ ! -x $target ]]; then
    [[ -z $check ]] || { echo "build.sh: $binary $version is not built" >&2; exit 1; }
    build "$binary"
  fi
  echo "$target"
done

#!/usr/bin/env bash
# Builds the control plane that the contract tests run against, from the Go module pinned beside this script, and prints
# the folder that holds it: ${XDG_CACHE_HOME:-~/.cache}/komputer/kubernetes/<version>. What is there already is not built
# again; a build that was cut short leaves nothing there. Cold it takes about 8 minutes on two cores and 330 MiB.
set -euo pipefail
cd "$(dirname "$0")"
commands=(kube-apiserver kube-controller-manager kube-scheduler)
version=$(sed -n 's/^require k8s\.io\/kubernetes v//p' go.mod)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/komputer/kubernetes/$version

missing=()
for command in "${commands[@]}"; do
  [[ -x $cache/$command ]] || missing+=("$command")
done
if ((${#missing[@]})); then
  command -v go >/dev/null || { echo "build.sh: Go is needed to build Kubernetes $version and is not installed" >&2; exit 1; }
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9 # a second build waits for the first and then finds its result
  stamp=k8s.io/component-base/version
  ldflags="-s -w -X $stamp.gitVersion=v$version -X $stamp.gitMajor=${version%%.*} -X $stamp.gitMinor=$(cut -d. -f2 <<<"$version")"
  ldflags+=" -X $stamp.gitTreeState=clean -X $stamp.gitCommit=$(printf '0%.0s' {1..40})"
  for command in "${missing[@]}"; do
    [[ ! -x $cache/$command ]] || continue
    echo "build.sh: building $command $version" >&2
    part=$(mktemp "$cache/.$command.XXXXXX")
    trap 'rm -f "$part"' EXIT
    CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$ldflags" -o "$part" "k8s.io/kubernetes/cmd/$command"
    chmod 755 "$part"
    mv "$part" "$cache/$command"
  done
fi
echo "$cache"

#!/usr/bin/env bash
# Lists changes of the OpenAPI document that break clients of the last release (the newest tag v*), and fails if there are
# any. `breakage.sh OLD NEW` compares two files. Needs Go: oasdiff is built once and kept in the user's cache.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=v1.11.7
tool=${XDG_CACHE_HOME:-$HOME/.cache}/komputer/oasdiff/$version/oasdiff
if [[ ! -x $tool ]]; then
  command -v go >/dev/null || { echo "breakage.sh: Go is needed to build oasdiff $version and is not installed" >&2; exit 1; }
  GOFLAGS=-mod=mod GOBIN=$(dirname "$tool") go install "github.com/oasdiff/oasdiff@$version" 2>/dev/null
fi
old=${1:-} new=${2:-docs/openapi.json}
if [[ -z $old ]]; then
  tag=$(git describe --tags --match 'v*' --abbrev=0 2>/dev/null || true)
  [[ -n $tag ]] || { echo "openapi: there is no release yet to compare with"; exit 0; }
  old=$(mktemp)
  trap 'rm -f "$old"' EXIT
  git show "$tag:docs/openapi.json" >"$old"
fi
"$tool" breaking "$old" "$new" --fail-on ERR
echo "openapi: no breaking changes since ${tag:-$old}"

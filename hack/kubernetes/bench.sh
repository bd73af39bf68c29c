#!/usr/bin/env bash
# Benchmarks the programs against a real control plane without nodes (about 6 minutes on an idle machine); see
# benchmarks/kubernetes.py.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
dir=$(mktemp -d)
trap '"$here/controlplane.sh" stop "$dir"; rm -rf "$dir"' EXIT
kubeconfig=$(AUDIT=yes "$here/controlplane.sh" start "$dir")
.venv/bin/python -m benchmarks.kubernetes "$kubeconfig" "$dir/audit.log"

#!/usr/bin/env bash
# Runs the Kubernetes contract tests, and those of operator, gateway and API, against a real kube-apiserver: builds it if
# it is not cached, starts one control plane per pytest worker on loopback (WORKERS, default 2), always stops them, and
# ends with one line that says how it went. Arguments are passed on to pytest.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
python=.venv/bin/python
[[ -x $python ]] || { echo "test-kubernetes: there is no .venv: run make setup first" >&2; exit 1; }

"$here/build.sh" kube-apiserver kube-controller-manager kube-scheduler >/dev/null
workers=${WORKERS:-2}
dir=$(mktemp -d)
finish() {
  local code=$? n
  trap - EXIT INT TERM
  for ((n = 0; n < workers; n++)); do "$here/controlplane.sh" stop "$dir/$n" || code=1; done
  if ((code == 0)); then rm -rf "$dir"; else echo "test-kubernetes: the control plane's logs are in $dir" >&2; fi
  echo "test-kubernetes: $( ((code == 0)) && echo passed || echo failed) against kube-apiserver $version, ${counts:-the tests did not run}"
  exit "$code"
}
version=$(sed -n 's/^require k8s\.io\/kubernetes v//p' "$here/go.mod")
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A control plane of its own for each worker: an operator acts on all agents of its API server. A worker that crashed is
# not replaced, because its replacement would have no control plane.
options=(-n "$workers" --dist worksteal --max-worker-restart 0)
for ((n = 0; n < workers; n++)); do
  kubeconfig=$("$here/controlplane.sh" start "$dir/$n")
  options+=(--kubeconfig "$kubeconfig")
done
code=0
suites=(tests/chart tests/contract/{kubernetes,kube,gateway,operator,api})
"$python" -m pytest "${suites[@]}" "${options[@]}" -o console_output_style=count "$@" | tee "$dir/pytest.log" || code=$?
counts=$(tail -n 1 "$dir/pytest.log" | sed 's/^=* *//; s/ *=*$//')
exit "$code"

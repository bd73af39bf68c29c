#!/usr/bin/env bash
# Runs the Kubernetes contract tests, and those of operator, gateway and API, against a real kube-apiserver: builds it if
# it is not cached, starts it on loopback, stops it in any case, and prints one line with the result. Arguments are passed
# to pytest.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
python=.venv/bin/python
[[ -x $python ]] || { echo "test-kubernetes: there is no .venv: run make setup first" >&2; exit 1; }

"$here/build.sh" kube-apiserver kube-controller-manager kube-scheduler >/dev/null
dir=$(mktemp -d)
finish() {
  local code=$?
  trap - EXIT INT TERM
  "$here/controlplane.sh" stop "$dir" || code=1
  if ((code == 0)); then rm -rf "$dir"; else echo "test-kubernetes: the control plane's logs are in $dir" >&2; fi
  echo "test-kubernetes: $( ((code == 0)) && echo passed || echo failed) against kube-apiserver $version, ${counts:-the tests did not run}"
  exit "$code"
}
version=$(sed -n 's/^require k8s\.io\/kubernetes v//p' "$here/go.mod")
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

kubeconfig=$("$here/controlplane.sh" start "$dir")
code=0
suites=(tests/chart tests/contract/{kubernetes,kube,gateway,operator,api}) # in this order: the operator of tests/contract/operator acts on the agents of all tests
"$python" -m pytest "${suites[@]}" --kubeconfig "$kubeconfig" -o console_output_style=count "$@" | tee "$dir/pytest.log" || code=$?
counts=$(tail -n 1 "$dir/pytest.log" | sed 's/^=* *//; s/ *=*$//')
exit "$code"

#!/usr/bin/env bash
# Runs the end-to-end tests on a real cluster with one node: builds the images, starts the node, installs the chart with
# Helm, runs `tests/e2e` through its Service as a ServiceAccount with all rights, removes everything, and prints one line
# with the result. Arguments are passed to pytest. Needs root. With KEEP=yes the node keeps running; stop it with
# hack/kubernetes/node.sh stop DIR.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
python=.venv/bin/python
[[ -x $python ]] || { echo "e2e-kubernetes: there is no .venv: run make setup first" >&2; exit 1; }
[[ $(id -u) == 0 ]] || { echo "e2e-kubernetes: a node needs root" >&2; exit 1; }

dir=$(mktemp -d)
finish() {
  local code=$?
  trap - EXIT INT TERM
  if [[ ${KEEP:-} == yes ]]; then
    echo "e2e-kubernetes: the node keeps running in $dir" >&2
  else
    "$here/node.sh" stop "$dir" || code=1
    if ((code == 0)); then rm -rf "$dir"; else echo "e2e-kubernetes: logs are in $dir" >&2; fi
  fi
  echo "e2e-kubernetes: $( ((code == 0)) && echo passed || echo failed) on Kubernetes $version, ${counts:-the tests did not run}"
  exit "$code"
}
version=$(sed -n 's/^require k8s\.io\/kubernetes v//p' "$here/go.mod")
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

helm=$("$here/build.sh" helm)
hack/images/build.sh save "$dir/images.tar"
AUDIT=yes IMAGES=$dir/images.tar "$here/node.sh" start "$dir" >/dev/null
rm "$dir/images.tar"
inside() { "$here/node.sh" run "$@"; }
export KUBECONFIG=$dir/controlplane/admin.kubeconfig
inside kubectl create namespace komputer >/dev/null
inside kubectl label namespace komputer default pod-security.kubernetes.io/enforce=restricted >/dev/null
inside "$helm" install komputer charts/komputer --namespace komputer -f "$here/node/values.yaml" \
  --wait --timeout 180s >/dev/null
echo "e2e-kubernetes: the chart is installed and ready after $SECONDS s"
inside kubectl create serviceaccount tester --namespace default >/dev/null
inside kubectl create clusterrolebinding tester --clusterrole=cluster-admin --serviceaccount=default:tester >/dev/null
KOMPUTER_TOKEN=$(inside kubectl create token tester --namespace default --duration=12h)
export KOMPUTER_TOKEN HELM=$helm
unset KUBECONFIG
code=0
(($#)) || set -- tests/e2e
inside "$python" -m pytest --node "$dir" -o console_output_style=count "$@" | tee "$dir/pytest.log" || code=$?
counts=$(tail -n 1 "$dir/pytest.log" | sed 's/^=* *//; s/ *=*$//')
exit "$code"

#!/usr/bin/env bash
# A real Kubernetes control plane without nodes, on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.
#   controlplane.sh start DIR [PORT]   starts it, waits until it is ready, prints the path of the admin's kubeconfig
#   controlplane.sh stop DIR           stops it; DIR keeps data, keys and logs
# DIR is created with mode 0700 and contains everything. Only the API server listens on a TCP port; PORT 0, the default,
# picks a free one. The binaries come from build.sh, etcd from Debian (etcd-server, installed if this runs as root).
# With ADDRESS in the environment the API server listens there, so that nodes can reach it, instead of on loopback. With
# AUDIT=yes it logs the requests of ServiceAccounts and of the admin to audit.log.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)
parts=(etcd kube-apiserver kube-controller-manager kube-scheduler)
address=${ADDRESS:-127.0.0.1}

say() { echo "controlplane.sh: $*" >&2; }
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }

running() { # PART: prints its pid if its process is still the one that was started in DIR
  local pid
  pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 1
  [[ $(readlink "/proc/$pid/cwd" 2>/dev/null) == "$dir" ]] && echo "$pid"
}

run() { # PART COMMAND...: runs it in the background in DIR, in its own session so that Ctrl-C does not reach it
  local part=$1; shift
  (cd "$dir" && exec setsid "$@") >>"$dir/$part.log" 2>&1 </dev/null &
  echo $! >"$dir/$part.pid"
}

stop() { # in reverse order, so that no part loses its server
  local i part pid
  for ((i = ${#parts[@]} - 1; i >= 0; i--)); do
    part=${parts[i]}
    if pid=$(running "$part"); then
      kill "$pid" 2>/dev/null || true
      for _ in {1..150}; do running "$part" >/dev/null || break; sleep 0.1; done
      if pid=$(running "$part"); then say "$part did not stop in 15 s and was killed"; kill -9 "$pid" || true; fi
    fi
    rm -f "$dir/$part.pid"
  done
  rm -f "$dir"/*.sock:0
}

give_up() { say "$*"; exit 1; } # the trap of start stops what is running

await() { # SECONDS WHAT COMMAND...: waits until the command succeeds; fails early if a part has ended
  local end=$((SECONDS + $1)) what=$2 part; shift 2
  until "$@" >/dev/null 2>&1; do
    for part in "${parts[@]}"; do
      if [[ -f $dir/$part.pid ]] && ! running "$part" >/dev/null; then
        tail -n 15 "$dir/$part.log" >&2
        give_up "$part ended before there was a $what"
      fi
    done
    ((SECONDS < end)) || give_up "there was no $what in time, see the logs in $dir"
    sleep 0.1
  done
}

certificate() { # NAME SUBJECT [SUBJECT_ALT_NAMES]: creates a key and a certificate signed by the cluster's CA, once
  [[ ! -s $dir/$1.crt ]] || return 0
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" \
    -keyout "$dir/$1.key" -out "$dir/$1.csr" 2>/dev/null
  openssl x509 -req -in "$dir/$1.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -set_serial "0x$(openssl rand -hex 8)" \
    -days 365 -out "$dir/$1.crt" 2>/dev/null -extfile <(
      printf '%s\n' authorityKeyIdentifier=keyid keyUsage=critical,digitalSignature extendedKeyUsage=serverAuth,clientAuth
      [[ -z ${3:-} ]] || echo "subjectAltName=$3")
  rm "$dir/$1.csr"
}

kubeconfig() { # NAME: writes a kubeconfig with embedded certificates, so that one file is enough
  cat >"$dir/$1.kubeconfig" <<END
{"apiVersion": "v1", "kind": "Config", "current-context": "controlplane",
 "contexts": [{"name": "controlplane", "context": {"cluster": "controlplane", "user": "$1"}}],
 "clusters": [{"name": "controlplane", "cluster": {"server": "https://$address:$port",
   "certificate-authority-data": "$(base64 -w0 "$dir/ca.crt")"}}],
 "users": [{"name": "$1", "user": {"client-certificate-data": "$(base64 -w0 "$dir/$1.crt")",
   "client-key-data": "$(base64 -w0 "$dir/$1.key")"}}]}
END
}

ask() { # PATH: requests it as the admin
  curl -sf --max-time 3 --noproxy '*' --cacert "$dir/ca.crt" --cert "$dir/admin.crt" --key "$dir/admin.key" "https://$address:$port$1"
}

need_etcd() {
  command -v etcd >/dev/null && return
  [[ $(id -u) == 0 ]] || { say "etcd is not installed, and installing it needs root: apt-get install --no-install-recommends etcd-server"; exit 1; }
  say "installing etcd-server"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends etcd-server; } >"$dir/apt.log" 2>&1 \
    || { tail -n 5 "$dir/apt.log" >&2; say "etcd-server could not be installed"; exit 1; }
}

keys() {
  [[ -s $dir/ca.crt ]] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=controlplane \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null
  [[ -s $dir/sa.key ]] || openssl ecparam -name prime256v1 -genkey -noout -out "$dir/sa.key"
  certificate kube-apiserver /CN=kube-apiserver \
    "DNS:localhost,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$address,IP:10.96.0.1"
  certificate kubelet-client /O=system:masters/CN=kubelet-client
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  kubeconfig admin; kubeconfig controller-manager; kubeconfig scheduler
}

start() {
  local audit=() part reconciler apiserver controller_manager scheduler
  for part in "${parts[@]}"; do
    if running "$part" >/dev/null; then say "$part is already running in $dir"; exit 1; fi
  done
  { read -r apiserver; read -r controller_manager; read -r scheduler; } < <("$here/build.sh" "${parts[@]:1}")
  need_etcd
  rm -f "$dir"/*.pid "$dir"/*.sock:0
  ((port)) || port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  trap stop EXIT
  trap 'give_up interrupted' INT TERM
  keys

  # The API server's bookmarks depend on progress notifications, which Debian's etcd does not send by default.
  run etcd etcd --name cp --data-dir etcd --unsafe-no-fsync --experimental-watch-progress-notify-interval=5s \
    --listen-client-urls unix://etcd.sock:0 --advertise-client-urls unix://etcd.sock:0 --listen-peer-urls unix://peer.sock:0 \
    --initial-advertise-peer-urls unix://peer.sock:0 --initial-cluster cp=unix://peer.sock:0
  await 20 "socket of etcd" test -S "$dir/etcd.sock:0"
  # A loopback address cannot be an endpoint of the "kubernetes" Service, and without nodes nobody uses it: no reconciler.
  [[ $address == 127.* ]] && reconciler=none || reconciler=lease
  if [[ ${AUDIT:-} == yes ]]; then
    echo '{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
      "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts", "system:masters"]}, {"level": "None"}]}' \
      >"$dir/audit-policy.json"
    audit=(--audit-policy-file=audit-policy.json --audit-log-path=audit.log --audit-log-mode=batch
      --audit-log-batch-max-wait=1s)
  fi
  run kube-apiserver "$apiserver" --etcd-servers=unix://etcd.sock:0 --bind-address="$address" --secure-port="$port" \
    --advertise-address="$address" --endpoint-reconciler-type="$reconciler" --cert-dir=. --client-ca-file=ca.crt \
    --anonymous-auth=false --kubelet-client-certificate=kubelet-client.crt --kubelet-client-key=kubelet-client.key \
    --kubelet-preferred-address-types=InternalIP \
    --tls-cert-file=kube-apiserver.crt --tls-private-key-file=kube-apiserver.key --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --service-cluster-ip-range=10.96.0.0/16 \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file=sa.key --service-account-signing-key-file=sa.key "${audit[@]}"
  await 60 "ready API server" ask /readyz
  # With the default of 20 requests per second, the controller manager takes 8 s to start.
  run kube-controller-manager "$controller_manager" --kubeconfig=controller-manager.kubeconfig --leader-elect=false \
    --secure-port=0 --kube-api-qps=200 --kube-api-burst=400 --use-service-account-credentials \
    --service-account-private-key-file=sa.key --root-ca-file=ca.crt
  run kube-scheduler "$scheduler" --kubeconfig=scheduler.kubeconfig --leader-elect=false --secure-port=0
  await 60 "default ServiceAccount" ask /api/v1/namespaces/default/serviceaccounts/default
  trap - EXIT INT TERM
  echo "$dir/admin.kubeconfig"
}

[[ $# -ge 2 && ${3:-0} =~ ^[0-9]+$ ]] || usage
verb=$1 port=${3:-0}
mkdir -p "$2"
dir=$(cd "$2" && pwd)
case $verb in start) start ;; stop) stop ;; *) usage ;; esac

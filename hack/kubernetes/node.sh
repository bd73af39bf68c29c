#!/usr/bin/env bash
# A real Kubernetes cluster with one node, in its own network namespace: the control plane of controlplane.sh, containerd,
# kubelet and kube-proxy, DNS (CoreDNS) and volumes (local-path). Nothing in it can reach networks outside.
#   node.sh start DIR    creates it, waits until it is ready, prints the path of the admin's kubeconfig
#   node.sh stop DIR     ends all of its processes and removes it, except for the logs in DIR
#   node.sh load FILE    imports the images of a podman archive into the running node; existing images are replaced
#   node.sh run COMMAND… runs a command in its network, the only one that reaches the API server, Services and Pods
# One per machine at a time. Needs root; Debian packages are installed, the rest is built by build.sh and hack/images.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
netns=komputer-node place=/run/komputer-node node=node1 ip=10.88.0.1 pods=10.89.0.0/24 services=10.96.0.0/16
packages=(containerd runc containernetworking-plugins iptables conntrack etcd-server)

say() { echo "node.sh: $*" >&2; }
usage() { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
inside() { nsenter --net=/run/netns/$netns "$@"; } # `ip netns exec` would hide /sys/fs/cgroup
kube() { inside kubectl --kubeconfig="$dir/controlplane/admin.kubeconfig" "$@"; }
containers() { ctr -a "$dir/containerd.sock" -n k8s.io "$@"; }

running() { # PART: prints its pid if its process is still the one that was started in DIR
  local pid
  pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 1
  [[ $(readlink "/proc/$pid/cwd" 2>/dev/null) == "$dir" ]] && echo "$pid"
}
run() { # PART COMMAND...: runs it in the background, in the namespace and in DIR
  local part=$1; shift
  (cd "$dir" && exec setsid nsenter --net=/run/netns/$netns "$@") >>"$dir/$part.log" 2>&1 </dev/null &
  echo $! >"$dir/$part.pid"
}
end() { # PART
  local pid
  if pid=$(running "$1"); then
    kill "$pid"
    for _ in {1..100}; do running "$1" >/dev/null || break; sleep 0.1; done
    if pid=$(running "$1"); then kill -9 "$pid" || true; fi
  fi
  rm -f "$dir/$1.pid"
}
await() { # SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { say "there was no $what in time, see the logs in $dir"; exit 1; }
    sleep 0.1
  done
}

need_packages() {
  local missing=() package
  for package in "${packages[@]}"; do dpkg-query -W "$package" >/dev/null 2>&1 || missing+=("$package"); done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$dir/apt.log" 2>&1 \
    || { tail -n 5 "$dir/apt.log" >&2; say "they could not be installed"; exit 1; }
}
network() {
  ip netns add $netns
  ip link add $netns type veth peer name node netns $netns
  inside sh -c "ip link set lo up; ip addr add $ip/24 dev node; ip link set node up
    sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true"
  ip link set $netns up
  # Services need a route: without one, connect() from the host's network fails before kube-proxy's rules apply.
  inside ip route add $services dev lo
}
identity() { # creates the kubelet's certificate and kubeconfig
  (umask 077; cd "$dir"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=system:nodes/CN=system:node:$node" \
    -keyout node.key -out node.csr 2>/dev/null
  openssl x509 -req -in node.csr -CA controlplane/ca.crt -CAkey controlplane/ca.key -set_serial "0x$(openssl rand -hex 8)" \
    -days 365 -out node.crt 2>/dev/null -extfile <(printf '%s\n' authorityKeyIdentifier=keyid keyUsage=critical,digitalSignature \
      extendedKeyUsage=serverAuth,clientAuth "subjectAltName=DNS:$node,IP:$ip")
  kubeconfig "\"client-certificate\": \"$dir/node.crt\", \"client-key\": \"$dir/node.key\"" >node.kubeconfig)
}
kubeconfig() { # USER
  cat <<END
{"apiVersion": "v1", "kind": "Config", "current-context": "n", "contexts": [{"name": "n", "context": {"cluster": "n", "user": "n"}}],
 "clusters": [{"name": "n", "cluster": {"server": "https://$ip:6443", "certificate-authority": "$dir/controlplane/ca.crt"}}],
 "users": [{"name": "n", "user": {$1}}]}
END
}
settings() {
  mkdir -p "$dir/cni"
  : >"$dir/resolv.conf" # no external name server
  cat >"$dir/cni/10-pods.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "$dir/ipam", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
  cat >"$dir/containerd.toml" <<END
version = 2
root = "$dir/containerd"
state = "$dir/containerd-run"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/node/pause:latest"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.internal.v1.opt"]
  path = "$dir/containerd-opt"
END
  cat >"$dir/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $ip
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $dir/controlplane/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $dir/node.crt
tlsPrivateKeyFile: $dir/node.key
containerRuntimeEndpoint: unix://$dir/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
maxOpenFiles: 16384
maxPods: 250
oomScoreAdj: 0
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $dir/resolv.conf
podLogsDir: $dir/pod-logs
volumePluginDir: $dir/volume-plugins
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
imageMinimumGCAge: 8760h
syncFrequency: 10s
# The tests kill containers on purpose: a growing back-off would only slow them down.
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
END
  cat >"$dir/proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: $dir/proxy.kubeconfig}
hostnameOverride: $node
clusterCIDR: $pods
bindAddress: $ip
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
}

remove_remains() { # removes what a killed node left behind; fails if a node is running
  local other
  other=$(cat $place 2>/dev/null) || return 0
  if (dir=$other; running containerd || running kubelet) >/dev/null; then
    say "a node is running already: $0 stop $other"
    exit 75 # EX_TEMPFAIL of sysexits.h
  fi
  say "removing what is left of the node in $other"
  "$0" stop "$other"
}
start() {
  local kubelet proxy
  remove_remains
  need_packages
  { read -r kubelet; read -r proxy; } < <("$here/build.sh" kubelet kube-proxy)
  trap stop EXIT
  trap 'exit 130' INT TERM
  echo "$dir" >$place
  network
  ADDRESS=$ip inside "$here/controlplane.sh" start "$dir/controlplane" 6443 >/dev/null
  identity
  settings
  run containerd containerd --config "$dir/containerd.toml"
  await 20 containerd containers version
  [[ -z ${IMAGES:-} ]] || load "$IMAGES"
  run kubelet "$kubelet" --config=kubelet.yaml --kubeconfig=node.kubeconfig --hostname-override=$node --node-ip=$ip \
    --root-dir="$dir/kubelet" --cert-dir="$dir/kubelet-pki"
  await 60 "Node object" kube get node $node
  kube create clusterrolebinding proxy --clusterrole=system:node-proxier --serviceaccount=kube-system:proxy >/dev/null
  kube -n kube-system create serviceaccount proxy >/dev/null
  (umask 077; kubeconfig "\"token\": \"$(kube -n kube-system create token proxy --duration=48h)\"" >"$dir/proxy.kubeconfig")
  run kube-proxy "$proxy" --config=proxy.yaml
  kube wait --for=condition=Ready node/$node --timeout=60s >/dev/null
  sed "s#@VOLUMES@#$dir/volumes#" "$here/node/pods.yaml" | kube apply -f - >/dev/null
  kube -n kube-system rollout status deployment/coredns --timeout=60s >/dev/null
  trap - EXIT INT TERM
  say "ready after $SECONDS s"
  echo "$dir/controlplane/admin.kubeconfig"
}
load() {
  containers images import "$1" >/dev/null
  for image in $(containers images ls -q); do containers images label "$image" io.cri-containerd.pinned=pinned >/dev/null; done
}
stop() { # also ends the containers, which outlive kubelet and containerd; works if the node's processes are dead
  local code=$? name
  end kubelet; end kube-proxy; end containerd
  pkill -9 -f "containerd-shim.* -address $dir/containerd.sock" || true
  for name in $(cd /run/netns 2>/dev/null && ls); do # a pod's namespace is recognised by the other end of its link
    [[ $name == cni-* && $(ip -n "$name" link show eth0 2>/dev/null) == *"link-netns $netns"* ]] || continue
    ip netns pids "$name" | xargs -r kill -9 || true
    ip netns del "$name"
  done
  "$here/controlplane.sh" stop "$dir/controlplane" || true
  awk -v below="$dir/" 'index($2, below) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount 2>/dev/null || true
  ip link del $netns 2>/dev/null || true
  [[ ! -e /run/netns/$netns ]] || ip netns del $netns
  for name in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
    [[ ! -d $name ]] || find "$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done
  rm -rf "$dir"/{containerd,containerd-run,containerd-opt,kubelet,volumes,ipam} $place
  return "$code"
}

verb=${1:-}
[[ $# -ge 2 ]] || usage
case $verb in
  start | stop) mkdir -p "$2"; dir=$(cd "$2" && pwd); "$verb" ;;
  load) dir=${NODE_DIR:?names the folder that the node was started in}; load "$2" ;;
  run) shift; inside "$@" ;;
  *) usage ;;
esac

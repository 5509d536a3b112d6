#!/bin/sh
# up.sh DIR [BIN]: starts a cluster of one node whose state is all under DIR,
# with the binaries that build.sh left in BIN (DIR/bin), and returns when its
# node is ready. DIR/kubeconfig is its administrator's.
#
# Needs root, a static busybox, openssl, iproute2, util-linux, and containerd,
# runc and the CNI plugins bridge, host-local and loopback of the machine
# (Debian: containerd, runc, containernetworking-plugins; CNI_BIN names their
# folder if it is not one of the usual ones).
#
# Small logs (1 MiB a file, rotated within 3 s) make rotation frequent:
# CONTAINER_LOG_MAX_SIZE=10Mi is Kubernetes' default. Every request to the API
# server is in DIR/log/audit.log.
#
# The node (containerd, kubelet and every container) lives in namespaces of its
# own, so that killing the process in DIR/run/node.pid ends all of it. The
# machine's network gets a bridge, kube0, and nothing is forwarded or
# masqueraded: a pod reaches other pods, the machine and the API server, and
# nothing else.
#
# DIR must be a short path (a socket's is of at most 107 bytes) without spaces.
set -eu
dir=$(mkdir -p "$1" && cd "$1" && pwd)
bin=$(cd "${2:-$dir/bin}" && pwd)
kit=$(cd "$(dirname "$0")" && pwd)
PATH="$bin:$PATH"
for cni in ${CNI_BIN:-/usr/lib/cni /opt/cni/bin}; do
	[ ! -x "$cni/bridge" ] || break
done
pods=10.88.0 # .0/16, the bridge is .1
server=10.96.0.1 # the first address of the services, where the API server listens
cd "$dir"
umask 077
mkdir -p run log pki etcd cni kubelet containerd pods volumeplugins images netstate
for need in kubelet containerd ctr runc "$cni/bridge" "$cni/host-local" "$cni/loopback" busybox openssl ip unshare; do
	command -v "$need" >/dev/null || { echo "up.sh: no $need" >&2; exit 1; }
done
[ ! -e /sys/class/net/kube0 ] || { echo "up.sh: a cluster is up already" >&2; exit 1; }
trap 'sh "$kit/down.sh" "$dir"' EXIT
trap 'exit 1' INT TERM

start() { # NAME COMMAND...
	name=$1
	shift
	setsid nohup sh "$kit/supervise.sh" "$dir" "$name" "$@" >/dev/null 2>&1 </dev/null &
	echo $! >"run/$name.pid"
}
await() { # SECONDS COMMAND...
	left=$(($1 * 5))
	shift
	until "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ $left -gt 0 ] || { echo "up.sh: gave up on: $*" >&2; exit 1; }
		sleep 0.2
	done
}

# Identities: a token for each, a key that signs those of service accounts, the
# certificate by which the kubelet knows the API server, and that by which
# everybody does, which also holds for a proxy on the loopback interface.
if [ ! -s pki/tokens.csv ]; then
	for identity in 'admin,admin,system:masters' 'system:node:node,node,system:nodes' \
		'system:kube-controller-manager,controllers,' 'system:kube-scheduler,scheduler,'; do
		echo "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n'),$identity"
	done >pki/tokens.csv
	openssl genrsa -out pki/sa.key 2048 2>/dev/null
	openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /O=system:masters/CN=kube-apiserver \
		-keyout pki/apiserver-kubelet.key -out pki/apiserver-kubelet.crt 2>/dev/null
	openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=kube-ca -keyout pki/ca.key -out pki/ca.crt 2>/dev/null
	echo "subjectAltName=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:$server,IP:127.0.0.1" >pki/names
	openssl req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -keyout pki/apiserver.key -out pki/apiserver.csr 2>/dev/null
	openssl x509 -req -days 3650 -in pki/apiserver.csr -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -extfile pki/names 2>/dev/null |
		cat - pki/ca.crt >pki/apiserver.crt
fi
kubeconfig() { # USER FILE
	cat >"$2" <<END
apiVersion: v1
kind: Config
clusters: [{name: kube, cluster: {server: "https://$server", certificate-authority: $dir/pki/apiserver.crt}}]
users: [{name: "$1", user: {token: "$(grep ",$1," pki/tokens.csv | cut -d, -f1)"}}]
contexts: [{name: kube, context: {cluster: kube, user: "$1"}}]
current-context: kube
END
}
kubeconfig admin kubeconfig
kubeconfig system:kube-controller-manager run/controllers.kubeconfig
kubeconfig system:kube-scheduler run/scheduler.kubeconfig
kubeconfig system:node:node run/kubelet.kubeconfig
export KUBECONFIG="$dir/kubeconfig" KUBECACHEDIR="$dir/run/cache"

# Images: nothing is ever pulled. Whatever archive of an image lies in
# DIR/images is imported when the node starts.
if [ ! -s images/busybox.tar ]; then
	mkdir -p images/root/bin images/root/tmp images/root/etc
	cp "$(command -v busybox)" images/root/bin/busybox
	for applet in $(busybox --list); do
		[ "$applet" = busybox ] || ln -sf busybox "images/root/bin/$applet"
	done
	echo root:x:0:0:root:/:/bin/sh >images/root/etc/passwd
	chmod -R go=u-w images/root
	chmod 1777 images/root/tmp
	sh "$kit/image.sh" localhost/pause:0 images/root sleep 2147483647 >images/pause.tar
	sh "$kit/image.sh" localhost/busybox:0 images/root sh >images/busybox.tar
	rm -r images/root
fi

# What the kubelet sets on the whole machine, for down.sh to put back.
for key in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
	echo "$(cat /proc/sys/$key) $key"
done >run/sysctl

ip link add kube0 type bridge
ip address add $pods.1/16 dev kube0
ip address add $server/32 dev kube0
ip link set kube0 up

cat >cni/kube.conflist <<END
{"cniVersion": "0.4.0", "name": "kube", "plugins": [{"type": "bridge", "bridge": "kube0", "ipam": {
  "type": "host-local", "dataDir": "$dir/netstate/host-local", "routes": [{"dst": "$server/32", "gw": "$pods.1"}],
  "ranges": [[{"subnet": "$pods.0/16", "rangeStart": "$pods.2", "gateway": "$pods.1"}]]}}]}
END
cat >run/containerd.toml <<END
version = 2
root = "$dir/containerd"
state = "/run/containerd"
[grpc]
  address = "$dir/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true # a root without CAP_SYS_RESOURCE cannot lower it
  sandbox_image = "localhost/pause:0"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$cni"
  conf_dir = "$dir/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "$dir/containerd/opt"
END
cat >run/audit.yaml <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
END
cat >run/kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $pods.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $dir/pki/apiserver-kubelet.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
clusterDNS: [10.96.0.10]
containerLogMaxFiles: 5
containerLogMaxSize: ${CONTAINER_LOG_MAX_SIZE:-1Mi}
containerLogMonitorInterval: 3s
containerRuntimeEndpoint: unix://$dir/run/containerd.sock
evictionHard: {memory.available: 100Mi}
failCgroupV1: false
failSwapOn: false
healthzPort: 0
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
podLogsDir: $dir/pods
resolvConf: ""
volumePluginDir: $dir/volumeplugins
END

start etcd etcd --data-dir="$dir/etcd" --unsafe-no-fsync --log-level=warn \
	--listen-client-urls="unix://$dir/run/etcd.sock" --advertise-client-urls="unix://$dir/run/etcd.sock" \
	--listen-peer-urls="unix://$dir/run/etcd-peer.sock"
start apiserver kube-apiserver --etcd-servers="unix://$dir/run/etcd.sock" \
	--bind-address=$server --advertise-address=$server --secure-port=443 --cert-dir="$dir/pki" \
	--token-auth-file="$dir/pki/tokens.csv" --authorization-mode=Node,RBAC \
	--enable-admission-plugins=NodeRestriction --allow-privileged \
	--service-cluster-ip-range=10.96.0.0/16 --service-account-issuer=https://kubernetes.default.svc \
	--service-account-key-file="$dir/pki/sa.key" --service-account-signing-key-file="$dir/pki/sa.key" \
	--kubelet-client-certificate="$dir/pki/apiserver-kubelet.crt" --kubelet-client-key="$dir/pki/apiserver-kubelet.key" \
	--kubelet-preferred-address-types=InternalIP \
	--audit-policy-file="$dir/run/audit.yaml" --audit-log-path="$dir/log/audit.log" --audit-log-maxsize=100 --audit-log-maxbackup=2
setsid nohup unshare --fork --kill-child --pid --mount --propagation private --mount-proc \
	sh "$kit/node.sh" "$dir" $pods.1 >>log/node.log 2>&1 </dev/null &
echo $! >run/node.pid
await 60 kubectl get --raw=/readyz
start controllers kube-controller-manager --kubeconfig="$dir/run/controllers.kubeconfig" \
	--leader-elect=false --secure-port=0 --use-service-account-credentials \
	--service-account-private-key-file="$dir/pki/sa.key" --root-ca-file="$dir/pki/apiserver.crt" \
	--controllers=*,-kube-apiserver-serving-clustertrustbundle-publisher-controller
start scheduler kube-scheduler --kubeconfig="$dir/run/scheduler.kubeconfig" --leader-elect=false --secure-port=0
await 60 kubectl get --raw=/api/v1/nodes/node/proxy/healthz
kubectl wait --for=condition=Ready --timeout=60s node/node >/dev/null
await 30 kubectl get serviceaccount default
trap - EXIT

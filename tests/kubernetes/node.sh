#!/bin/sh
# node.sh DIR ADDRESS: the node of a cluster, for up.sh, in namespaces for processes and mounts of its own: containerd and
# the kubelet. Each is started again when it dies; containers live on meanwhile.
set -eu
dir=$1 address=$2
kit=$(cd "$(dirname "$0")" && pwd)
umask 022
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /var/lib/cni /var/log/containers
mount --bind "$dir/netstate" /var/lib/cni
mount -t tmpfs tmpfs /var/log/containers

# A proxy that does not exist: a pull fails at once, and no packet leaves.
HTTP_PROXY=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 \
	sh "$kit/supervise.sh" "$dir" containerd containerd --config "$dir/run/containerd.toml" &
export CONTAINERD_ADDRESS="$dir/run/containerd.sock" CONTAINERD_NAMESPACE=k8s.io
until ctr version >/dev/null 2>&1; do sleep 0.1; done
for image in "$dir"/images/*.tar; do
	ctr images import "$image"
done
until [ -s "$dir/pki/apiserver.crt" ]; do sleep 0.1; done
sh "$kit/supervise.sh" "$dir" kubelet kubelet --config="$dir/run/kubelet.yaml" --kubeconfig="$dir/run/kubelet.kubeconfig" \
	--hostname-override=node --node-ip="$address" --root-dir="$dir/kubelet" --cert-dir="$dir/pki/kubelet"

#!/bin/sh
# down.sh DIR: stops the cluster that up.sh DIR started, at once, like a power cut. Its state and its logs stay in DIR,
# and up.sh DIR resumes it.
set -eu
cd "$1"
dir=$(pwd)
for name in node scheduler controllers apiserver etcd; do
	[ -f "run/$name.pid" ] || continue
	pid=$(cat "run/$name.pid")
	# Each is the leader of a session of its own. Whoever has the number now, if it is not this cluster's, is left alone.
	while grep -qsF "$dir" "/proc/$pid/cmdline"; do
		kill -KILL "-$pid" || true # the node's takes every container along
		sleep 0.1
	done
	rm "run/$name.pid"
done
rm -f run/*.off
ip link delete kube0 2>/dev/null || true
for attempt in 1 2 3 4 5 6 7 8 9 10; do # until the last killed process has ended
	find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null && break
	sleep 0.2
done
[ ! -f run/sysctl ] || while read -r value key; do echo "$value" >"/proc/sys/$key"; done <run/sysctl
rm -f run/sysctl

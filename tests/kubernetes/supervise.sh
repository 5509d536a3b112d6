#!/bin/sh
# supervise.sh DIR NAME COMMAND...: runs a component and starts it again when it has died, as systemd would on a real
# node, unless DIR/run/NAME.off is there: then it waits until the file is deleted.
set -eu
dir=$1 name=$2
shift 2
while :; do
	while [ -e "$dir/run/$name.off" ]; do sleep 0.1; done
	"$@" >>"$dir/log/$name.log" 2>&1 </dev/null || echo "$name ended with exit code $?" >>"$dir/log/$name.log"
	sleep 0.2
done

#!/bin/sh
# image.sh FOLDER [CLI API]: lays out the files of the agent's image: a static busybox with all its applets, the scripted
# agent, and the recordings that it plays; with CLI and API also the real CLI, tests/messages-api, and what they are linked with. For other clusters: `tests/kubernetes/image.sh NAME FOLDER sh` makes an
# archive of them that `kind load image-archive` or `k3s ctr images import` takes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$1"
mkdir -p "$1/bin" "$1/tmp" "$1/etc" "$1/usr/local/bin" "$1/recordings"
cp "$(command -v busybox)" "$1/bin/busybox"
for applet in $(busybox --list); do
	[ "$applet" = busybox ] || ln -sf busybox "$1/bin/$applet"
done
echo root:x:0:0:root:/:/bin/sh >"$1/etc/passwd"
cp "$here/claude" "$1/usr/local/bin/"
# One folder a version, older ones first: the newest recording of a name is played.
for version in "$here"/../../fixtures/claude-cli-*/; do
	cp "$version"*.ndjson "$1/recordings/"
done
if [ $# -gt 1 ]; then
	mkdir -p "$1/opt"
	cp "$2" "$1/opt/claude"
	cp "$3" "$1/opt/messages-api"
	# The CLI's tool needs a bash. Busybox has an applet of that name.
	rm -f "$1/bin/bash"
	cp "$(command -v bash)" "$1/bin/bash"
	for program in claude messages-api ../bin/bash; do
		ldd "$1/opt/$program" | grep -o '/[^ ]*' | sort -u
	done | sort -u | while read -r library; do
		mkdir -p "$1$(dirname "$library")"
		cp -L "$library" "$1$library"
	done
fi
chmod -R go=u-w "$1"
chmod 1777 "$1/tmp"

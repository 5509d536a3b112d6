#!/bin/sh
# cli-image.sh FOLDER VERSION: lays out the files of an image with the real Claude Code CLI, from npm, for this machine's architecture,
# instead of the scripted agent. In addition to the files of image.sh it has bash, for the CLI's Bash tool, and the shared libraries of
# both. Needs npm and its registry.
set -eu
root=$1 version=$2
case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) echo "cli-image.sh: no CLI for $(uname -m)" >&2; exit 1 ;; esac
"$(dirname "$0")/image.sh" "$root"
rm -r "$root/recordings"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "@anthropic-ai/claude-code-linux-$arch@$version" >name && tar -xzf "$(cat name)")
cp "$work/package/claude" "$root/usr/local/bin/claude"
cp --remove-destination "$(command -v bash)" "$root/bin/bash"
# Their dynamic loader and libraries, at the paths where they load them.
ldd "$root/usr/local/bin/claude" "$root/bin/bash" | grep -o '/[^ :]*\.so[^ ]*' | sort -u | while read -r library; do
	mkdir -p "$root$(dirname "$library")"
	cp -L "$library" "$root$library"
done
# The CLI reads its user's name.
echo 'agent:x:1000:1000:agent:/tmp:/bin/bash' >>"$root/etc/passwd"
chmod -R go=u-w "$root"
chmod 1777 "$root/tmp"

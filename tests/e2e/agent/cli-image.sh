#!/bin/sh
# cli-image.sh FOLDER VERSION: lays out the files of an image with the real Claude Code CLI, as npm has it, for this machine's kind of
# processor: a static busybox, bash for the CLI's Bash tool, and the shared libraries of both. Needs npm and the registry.
set -eu
root=$1 version=$2
case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) echo "cli-image.sh: no CLI for $(uname -m)" >&2; exit 1 ;; esac
rm -rf "$root"
mkdir -p "$root/bin" "$root/tmp" "$root/etc" "$root/usr/local/bin" "$root/home/agent"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "@anthropic-ai/claude-code-linux-$arch@$version" >name && tar -xzf "$(cat name)")
cp "$work/package/claude" "$root/usr/local/bin/claude"
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $(busybox --list); do
	case $applet in busybox | bash) ;; *) ln -sf busybox "$root/bin/$applet" ;; esac
done
cp "$(command -v bash)" "$root/bin/bash"
# Their dynamic loader and libraries, where they look for them.
ldd "$root/usr/local/bin/claude" "$root/bin/bash" | grep -o '/[^ :]*\.so[^ ]*' | sort -u | while read -r library; do
	mkdir -p "$root$(dirname "$library")"
	cp -L "$library" "$root$library"
done
echo 'agent:x:1000:1000:agent:/home/agent:/bin/bash' >"$root/etc/passwd"
chown -R 1000:1000 "$root/home/agent"
chmod -R go=u-w "$root"
chmod 1777 "$root/tmp"

#!/bin/sh
# image.sh FOLDER PROGRAM: lays out the files of the host's image: the program without debug information, and the
# shared libraries that it needs.
set -eu
rm -rf "$1"
mkdir -p "$1/usr/local/bin" "$1/tmp"
strip -o "$1/usr/local/bin/paperclip-host" "$2"
for library in $(ldd "$2" | grep -o '/[^ ]*'); do
	cp -L --parents "$library" "$1"
done
chmod -R go=u-w "$1"
chmod 1777 "$1/tmp"

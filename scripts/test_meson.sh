#!/bin/sh
# Builds with Meson, installs into a fresh prefix, and uses what is there: the plugin with gst-launch-1.0, the command, its manual page.
#
#     scripts/test_meson.sh
#
# Skips with a message where Meson is missing. Building takes as long as `make build`.
set -eu

cd "$(dirname "$0")/.."
command -v meson >/dev/null || { echo 'skipped: meson is not installed'; exit 0; }
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
build=target/meson

[ -e "$build/build.ninja" ] || meson setup "$build"
meson configure "$build" --prefix "$prefix"
meson compile -C "$build"
meson install -C "$build" --no-rebuild >"$prefix/install.log" || { cat "$prefix/install.log"; exit 1; }

plugin=$(find "$prefix" -name libgstvx.so)
export GST_REGISTRY="$prefix/registry.bin"
unset ORT_DYLIB_PATH GST_PLUGIN_PATH
clip=examples/media/scenes.mp4

lines=$(GST_PLUGIN_PATH=$(dirname "$plugin") gst-launch-1.0 -q filesrc location=$clip ! vxkeyframedec ! vxyolodetect ! vxjsonenc ! fdsink)
persons=$(echo "$lines" | grep -c '"label":"person"')
echo "meson: the installed plugin found persons on $persons keyframes"
lines=$("$prefix/bin/vx" detect --quiet $clip)
persons=$(echo "$lines" | grep -c '"label":"person"')
echo "meson: the installed command found persons on $persons keyframes"
[ -s "$prefix/share/man/man1/vx-detect.1" ] || { echo 'meson: the manual page of vx detect is missing' >&2; exit 1; }

#!/usr/bin/env bash
# What meson.build runs: builds plugin and command, copies both to where meson takes them from.
#
#   meson_build.sh TARGET_DIR OUTDIR PLUGIN COMMAND... [-- COMMAND...]
#
# The commands are cargo's: one that builds both, or one for each.
set -euo pipefail

target=$1 outdir=$2 plugin=$3
shift 3
command=()
for word in "$@" --; do
    if [ "$word" = -- ]; then
        [ ${#command[@]} -eq 0 ] || "${command[@]}"
        command=()
    else
        command+=("$word")
    fi
done

# cargo-c builds into a folder named after the machine; the newest is the one just built.
library=
for candidate in "$target"/*/release/"$plugin" "$target/release/$plugin"; do
    if [ -f "$candidate" ] && { [ -z "$library" ] || [ "$candidate" -nt "$library" ]; }; then library=$candidate; fi
done
[ -n "$library" ] || { echo "meson_build.sh: cargo built no $plugin under $target" >&2; exit 1; }
cp -f "$library" "$outdir/$plugin"
cp -f "$target/release/vx" "$outdir/vx"

# For the tests, the plugin as it is installed: alone in its folder, which GStreamer searches through and through, and
# ONNX Runtime beside that.
libraries=$(cd "$(dirname "$0")/.." && pwd)/.deps/lib
mkdir -p "$outdir/stage/plugins"
cp -f "$library" "$outdir/stage/plugins/$plugin"
if [ -d "$libraries" ]; then ln -sfn "$libraries" "$outdir/stage/vx"; fi

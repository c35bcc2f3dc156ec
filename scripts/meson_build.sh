#!/usr/bin/env bash
# Run by meson.build: builds the plugin and the command, and copies both to the folder where Meson expects them.
#
#   meson_build.sh TARGET_DIR OUTDIR PLUGIN COMMAND... [-- COMMAND...]
#
# The commands are those of cargo: one that builds both, or one for each.
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

# cargo-c builds into a folder named after the target; the newest library is the one just built.
library=
for candidate in "$target"/*/release/"$plugin" "$target/release/$plugin"; do
    if [ -f "$candidate" ] && { [ -z "$library" ] || [ "$candidate" -nt "$library" ]; }; then library=$candidate; fi
done
[ -n "$library" ] || { echo "meson_build.sh: cargo did not build $plugin under $target" >&2; exit 1; }
cp -f "$library" "$outdir/$plugin"
cp -f "$target/release/vx" "$outdir/vx"

# For the tests, the layout of an installation: the plugin alone in its folder, which GStreamer searches recursively, and ONNX Runtime
# beside that folder.
libraries=$(cd "$(dirname "$0")/.." && pwd)/.deps/lib
mkdir -p "$outdir/stage/plugins"
cp -f "$library" "$outdir/stage/plugins/$plugin"
if [ -d "$libraries" ]; then ln -sfn "$libraries" "$outdir/stage/vx"; fi

#!/bin/sh
# Runs short pipelines under valgrind and fails on memory that the plugin loses, and on invalid reads and writes in it.
#
#     scripts/valgrind.sh FOLDER    (with libgstvx.so alone)
set -eu

[ $# -eq 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2; }
plugins=$1
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo 'skipped: valgrind is not installed'; exit 0; }

log=target/valgrind.log
for line in \
    'filesrc location=examples/media/scenes.mp4 ! vxkeyframedec max-frames=4 ! fakesink' \
    'filesrc location=examples/media/scenes.mp4 ! vxkeyframedec max-frames=2 ! vxyolodetect execution-provider=cpu ! vxoverlay ! vxjsonenc ! fakesink'; do
    # Processors that valgrind does not know all instructions of: FFmpeg and ONNX Runtime select others then. GLib's memory is its own.
    # shellcheck disable=SC2086 # A launch line is words.
    GST_PLUGIN_PATH=$plugins GST_REGISTRY=target/valgrind-registry.bin GST_REGISTRY_FORK=no G_SLICE=always-malloc \
        valgrind --leak-check=full --show-leak-kinds=definite --num-callers=30 --log-file="$log" gst-launch-1.0 -q $line
    # Records are separated by lines without text.
    lost=$(awk -v RS='==[0-9]+== *\n' '/definitely lost|Invalid (read|write)|Mismatched free/ && /libgstvx/' "$log")
    if [ -n "$lost" ]; then
        echo "$lost"
        exit 1
    fi
    echo "valgrind: nothing of the plugin is lost: $line"
done

#!/bin/sh
# Runs test programs under AddressSanitizer and LeakSanitizer: memory that is used after it was freed or beyond its end, and memory
# that nothing refers to at the end.
#
#     scripts/sanitize.sh TEST...    (names as in tests/)
#
# A nightly compiler is not needed: RUSTC_BOOTSTRAP=1 allows the flag. FFmpeg, GStreamer and ONNX Runtime are as installed: what they
# allocate and free is examined, their own reads and writes are not.
set -eu

case ${1:--} in -*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
export LSAN_OPTIONS="suppressions=$(pwd)/scripts/leak_suppressions.txt:print_suppressions=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}"
host=$(rustc -vV | sed -n 's/^host: //p')
status=0
for name in "$@"; do
    # GLib has no frame pointers: with fast unwinding leaks in it have no origin, and what it keeps on purpose cannot be told from them.
    # A slow model allocates all the time, and other unwinding takes minutes and gigabytes there.
    case $name in
        elements_live) options=detect_leaks=0 ;;
        *) options=fast_unwind_on_malloc=0 ;;
    esac
    ASAN_OPTIONS="$options${ASAN_OPTIONS:+:$ASAN_OPTIONS}" \
        ${CARGO:-cargo} test --quiet --target "$host" --target-dir target/sanitize --test "$name" || status=1
done
exit $status

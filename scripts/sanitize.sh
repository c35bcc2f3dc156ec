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
tests=
for name in "$@"; do
    tests="$tests --test $name"
done

export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
export LSAN_OPTIONS="suppressions=$(pwd)/scripts/leak_suppressions.txt:print_suppressions=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}"
# GLib has no frame pointers: without this, leaks in it have no origin, and what it keeps on purpose cannot be told from them.
export ASAN_OPTIONS="fast_unwind_on_malloc=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
# shellcheck disable=SC2086 # They are words.
exec ${CARGO:-cargo} test --quiet --no-fail-fast --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir target/sanitize $tests

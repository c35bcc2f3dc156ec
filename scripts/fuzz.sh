#!/bin/sh
# Fuzzes each target for some minutes, in turn, with AddressSanitizer; stops at the first finding.
#
#     scripts/fuzz.sh MINUTES [TARGET...]
#
# It builds what `cargo fuzz` builds, with the flags of cargo-fuzz 0.13 (src/project.rs), but needs neither that nor a nightly compiler:
# RUSTC_BOOTSTRAP=1 allows the sanitizer's flag. Seeds come from tests/, examples/ and, where it exists, ../shared/broken. The corpus and
# the logs are kept in target/fuzz. A finding is written to target/fuzz/artifacts/TARGET; put a small one into
# tests/fuzz_regressions/TARGET.
set -eu

[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
cd "$(dirname "$0")/.."
root=$(pwd)
minutes=$1
shift
[ $# -gt 0 ] || set -- keyframes units models texts outputs pictures drawing results tables lists messages

work=$root/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Zsanitizer=address -Ccodegen-units=4"
for target in "$@"; do
    ${CARGO:-cargo} build --quiet --manifest-path fuzz/Cargo.toml --release --target "$host" --target-dir "$work" --bin "$target"
done

# Copies files into the corpus of a target.
seed() {
    target=$1
    shift
    mkdir -p "$work/corpus/$target"
    for file in "$@"; do
        [ ! -f "$file" ] || cp -f "$file" "$work/corpus/$target/seed-$(basename "$file")"
    done
}

# The first pictures of the example clip in a codec: codec's number, flags, no extradata, one unit.
stream() {
    mkdir -p "$work/corpus/units"
    place=$work/corpus/units/seed-$1
    number=$2
    shift 2
    printf "\\0$number\\011\\0\\0\\0377\\0377" >"$place"
    ffmpeg -nostdin -loglevel error -i examples/media/scenes.mp4 -an -s 64x48 -frames:v 3 "$@" - >>"$place" </dev/null || rm -f "$place"
}

# A short file of the example clip.
clip() {
    mkdir -p "$work/corpus/keyframes"
    place=$work/corpus/keyframes/seed-$1
    shift
    ffmpeg -nostdin -loglevel error -y -i examples/media/scenes.mp4 -an -s 64x48 -t 2 -g 10 "$@" "$place" </dev/null || rm -f "$place"
}

seed keyframes tests/media/*.* ../shared/broken/*
seed models tests/models/*.onnx tests/models/sizes/*.onnx
seed texts tests/models/*.modelinfo fuzz/seeds/texts/*
seed results fuzz/seeds/results/*
seed tables fuzz/seeds/tables/*
seed lists fuzz/seeds/lists/*
seed messages fuzz/seeds/messages/*
if command -v ffmpeg >/dev/null; then
    clip a.mp4 -c:v libx264 -preset ultrafast
    clip b.mp4 -c:v libx264 -preset ultrafast -movflags frag_keyframe+empty_moov
    clip c.mkv -c:v libx264 -preset ultrafast -cluster_time_limit 500
    clip d.webm -c:v libvpx-vp9 -deadline realtime -cpu-used 8
    clip e.ts -c:v libx264 -preset ultrafast
    clip f.flv -c:v flv
    clip g.avi -c:v mpeg4
    clip h.mpg -c:v mpeg2video
    clip i.mkv -c:v libx265 -preset ultrafast -x265-params log-level=error
    clip j.mov -c:v mjpeg
    clip k.ogv -c:v libtheora
    clip l.mxf -c:v mpeg2video -r 25
    stream h264 00 -c:v libx264 -preset ultrafast -f h264
    stream h265 01 -c:v libx265 -preset ultrafast -x265-params log-level=error -f hevc
    stream vp8 03 -c:v libvpx -f rawvideo
    stream vp9 04 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -f rawvideo
    stream jpeg 05 -c:v mjpeg -f mjpeg
    stream mpeg2 07 -c:v mpeg2video -f mpeg2video
    stream mpeg4 10 -c:v mpeg4 -f m4v
fi

# FFmpeg's decoders leak nothing that is ours; leaks at the end of the process are examined by `make leaks`.
export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:detect_odr_violation=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
# Targets write files for each input.
[ ! -d /dev/shm ] || export TMPDIR=/dev/shm
for target in "$@"; do
    mkdir -p "$work/corpus/$target" "$work/artifacts/$target"
    seed "$target" "tests/fuzz_regressions/$target"/*
    echo "$target: $minutes minutes"
    "$work/$host/release/$target" "$work/corpus/$target" -artifact_prefix="$work/artifacts/$target/" -max_total_time=$((minutes * 60)) \
        -timeout=20 -rss_limit_mb=3000 -malloc_limit_mb=1500 -max_len=65536 -print_final_stats=1 >"$work/$target.log" 2>&1 || {
        tail -n 60 "$work/$target.log"
        exit 1
    }
    sed -n 's/^stat::number_of_executed_units: */  executions: /p; s/^stat::average_exec_per_sec: */  each second: /p; s/^stat::peak_rss_mb: */  MiB: /p' "$work/$target.log"
done

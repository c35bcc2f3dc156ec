#!/bin/sh
# Collects everything that scripts/device_bench.sh needs on a bare machine. Run it on x86-64 after `make build`.
#
#     scripts/device_payload.sh PAYLOAD [FOLDER-WITH-libonnxruntime.so [PLUGIN-PROVIDER-FOLDER...]]
#
# The first folder is onnxruntime/capi of the package onnxruntime-gpu, for the CUDA and TensorRT providers. The others are folders of
# plugin providers' packages, for example onnxruntime_ep_nv_tensorrt_rtx. Needs ffmpeg and, for models and photographs, the folder
# `shared` beside the project.
set -eu

[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$1"
payload=$(cd "$1" && pwd)
deps=${VX_DEPS:-$root/.deps/lib}
runtime=$(cd "${2:-$deps}" && pwd)
[ $# -lt 2 ] && shift || shift 2
for folder; do
    name=$(basename "$folder")
    mkdir -p "$payload/plugin-providers/$name"
    cp -L "$folder"/lib*.so* "$payload/plugin-providers/$name/"
    # Under the names that their users are linked with, which wheels cannot contain, being links.
    for library in "$payload/plugin-providers/$name"/lib*.so.*.*; do
        [ -e "$library" ] || continue
        file=${library##*/} base=${library%.so.*}
        version=${file#*.so.}
        ln -sf "$file" "$base.so.${version%%.*}"
        ln -sf "$file" "$base.so"
    done
done
shared=$root/../shared
gst=$(pkg-config --variable=pluginsdir gstreamer-1.0)
cd "$payload"
mkdir -p bin plugins gst lib libc ort models clips/real clips/loops clips/bulk scripts benches python/bin python/lib

# The programs themselves, and an interpreter for machines without one.
cp "$root/scripts/device_bench.sh" scripts/
cp "$root/benches/device.py" benches/
interpreter=$("${PYTHON:-python3}" -c 'import os, sys; print(os.path.realpath(sys.executable))')
standard=$("${PYTHON:-python3}" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
cp "$interpreter" python/bin/python3
tar -C "${standard%/*}" --exclude=__pycache__ --exclude=site-packages --exclude=dist-packages --exclude=test --exclude=tests \
    --exclude=idlelib --exclude=tkinter --exclude=ensurepip --exclude='config-*' --exclude=lib2to3 -c "${standard##*/}" | tar -C python/lib -x

cp "$target/release/vx" "$(command -v gst-launch-1.0)" bin/
cp "$target/release/libgstvx.so" plugins/
for plugin in coreelements videoconvertscale videotestsrc imagefreeze typefindfunctions; do
    cp "$gst/libgst$plugin.so" gst/
done
cp -L "$runtime"/libonnxruntime.so.* "$runtime"/libonnxruntime_providers_*.so ort/
if [ -e "$deps/libonnxruntime_providers_openvino_plugin.so" ]; then
    mkdir -p openvino
    cp -L "$deps"/lib*.so* openvino/
    rm -f openvino/libonnxruntime.so ort/libonnxruntime_providers_openvino_plugin.so
fi
# All libraries of this system that these are linked with. The C library has its own folder, because it is used as a whole or not at all.
for file in bin/* plugins/* gst/* python/bin/* python/lib/*/lib-dynload/*.so ort/* openvino/* plugin-providers/*/*; do
    [ ! -e "$file" ] || ldd "$file"
done 2>/dev/null | awk '/=> \//{print $3} /^[[:space:]]*\/.*ld-linux/{print $1}' | sort -u |
    while read -r library; do
        case $library in "$payload"/*) continue ;; esac
        case ${library##*/} in
            ld-linux*|libc.so*|libm.so*|libmvec.so*|libdl.so*|librt.so*|libpthread.so*|libresolv.so*|libutil.so*|libnsl.so*|libanl.so*|libstdc++.so*|libgcc_s.so*)
                cp -L "$library" libc/ ;;
            *) cp -L "$library" lib/ ;;
        esac
    done

# One photograph a second, each a keyframe.
reel() {
    name=$1 width=$2 height=$3 seconds=$4
    shift 4
    [ -e "clips/$name" ] || ffmpeg -nostdin -v error -y -framerate 1 -pattern_type glob -i "$shared/images/*.jpg" -an \
        -vf "scale=$width:$height:force_original_aspect_ratio=increase,crop=$width:$height,format=yuv420p,setsar=1" -r 5 -t "$seconds" \
        "$@" -g 5 -keyint_min 5 "clips/$name" 2>/dev/null
}
for size in '1080p 1920 1080 16 60' '4K 3840 2160 8 30'; do
    # shellcheck disable=SC2086 # Fields of a table.
    set -- $size
    reel "$1_h264.mp4" "$2" "$3" "$4" -c:v libx264 -preset veryfast -crf 25 -sc_threshold 0
    reel "$1_hevc.mp4" "$2" "$3" "$4" -c:v libx265 -preset ultrafast -crf 28 -x265-params log-level=error:scenecut=0
    reel "$1_vp9.webm" "$2" "$3" "$4" -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -row-mt 1 -tile-columns 2 -b:v 0 -crf 38
    reel "$1_av1.mkv" "$2" "$3" "$4" -c:v libsvtav1 -preset 12 -crf 40
    for file in clips/"$1"_*; do
        loop=clips/loops/loop_${file#clips/}
        [ -e "$loop" ] || ffmpeg -nostdin -v error -y -stream_loop $(($5 - 1)) -i "$file" -c copy -an "$loop"
    done
done
number=0
while [ $number -lt 64 ]; do
    file=clips/bulk/$(printf %03d $number).mp4
    [ -e "$file" ] || ffmpeg -nostdin -v error -y -ss $((number * 5 % 13)) -t 3.5 -i clips/1080p_h264.mp4 -c copy "$file"
    number=$((number + 1))
done
cp -L "$shared"/models/*.onnx models/
cp -L "$shared/media/intel/one-by-one-person-detection.mp4" clips/
# Clips of many kinds, including some that a device may reject or decode wrongly.
find "$shared/media" "$shared/cases/media" -type f -size +1k -size -900k \
    \( -name '*.mp4' -o -name '*.mkv' -o -name '*.ivf' -o -name '*.26?' -o -name '*.h264' -o -name '*.ts' -o -name '*.m2v' -o -name '*.mpg' \
    -o -name '*.webm' -o -name '*.m4v' -o -name '*.3gp' \) -exec cp -n {} clips/real/ \;
make_clip() {
    name=$1 size=$2
    shift 2
    [ -e "clips/real/made_$name" ] || ffmpeg -nostdin -v error -y -f lavfi -i "testsrc2=size=$size:rate=5:duration=3" "$@" "clips/real/made_$name" 2>/dev/null ||
        echo "device_payload.sh: $name was not made: this ffmpeg has no encoder for it" >&2
}
make_clip hevc_main10.mp4 1280x720 -c:v libx265 -preset ultrafast -pix_fmt yuv420p10le -x265-params log-level=error:keyint=5
make_clip hevc_444.mp4 640x360 -c:v libx265 -preset ultrafast -pix_fmt yuv444p -x265-params log-level=error:keyint=5
make_clip hevc_422_10.mp4 640x360 -c:v libx265 -preset ultrafast -pix_fmt yuv422p10le -x265-params log-level=error:keyint=5
make_clip hevc_open_gop.mp4 640x360 -c:v libx265 -preset medium -pix_fmt yuv420p -x265-params log-level=error:keyint=5:open-gop=1:bframes=2
make_clip h264_high10.mp4 640x360 -c:v libx264 -preset veryfast -pix_fmt yuv420p10le -g 5
make_clip h264_444.mp4 640x360 -c:v libx264 -preset veryfast -pix_fmt yuv444p -g 5
make_clip h264_422.mp4 640x360 -c:v libx264 -preset veryfast -pix_fmt yuv422p -g 5
make_clip h264_odd_size.mp4 638x358 -c:v libx264 -preset veryfast -pix_fmt yuv420p -g 5 -vf crop=637:357:exact=1
make_clip h264_tiny.mp4 32x32 -c:v libx264 -pix_fmt yuv420p -g 5
make_clip h264_interlaced.mp4 720x576 -c:v libx264 -pix_fmt yuv420p -g 5 -flags +ilme+ildct -x264-params interlaced=1
make_clip h264_full_range.mp4 640x360 -c:v libx264 -pix_fmt yuvj420p -g 5
make_clip h264_gray.mp4 640x360 -c:v libx264 -pix_fmt gray -g 5
make_clip vp9_10.webm 640x360 -c:v libvpx-vp9 -pix_fmt yuv420p10le -deadline realtime -cpu-used 8 -g 5
make_clip vp9_444.webm 640x360 -c:v libvpx-vp9 -pix_fmt yuv444p -deadline realtime -cpu-used 8 -g 5
make_clip vp9_odd_size.webm 637x357 -c:v libvpx-vp9 -pix_fmt yuv420p -deadline realtime -cpu-used 8 -g 5
make_clip vp8.webm 640x360 -c:v libvpx -pix_fmt yuv420p -deadline realtime -cpu-used 8 -g 5
make_clip av1_10.mkv 640x360 -c:v libsvtav1 -preset 12 -pix_fmt yuv420p10le -g 5
make_clip av1_odd_size.mkv 637x357 -c:v libaom-av1 -cpu-used 8 -pix_fmt yuv420p -g 5
make_clip mpeg2.ts 720x576 -c:v mpeg2video -g 5
make_clip mpeg4.mp4 640x360 -c:v mpeg4 -g 5
make_clip mjpeg.avi 640x360 -c:v mjpeg -pix_fmt yuvj420p
echo "$payload: $(du -sh . | cut -f1)"

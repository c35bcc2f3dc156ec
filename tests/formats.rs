// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests every codec and container that the local FFmpeg command can create: the keyframes from `vxkeyframedec` are bit-exact and
//! have the same times as in a full decode by the command.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{clip, made, planes, quoted, run, scratch};

/// Name, and the arguments that create the file from the clip. Most files are six seconds long with one keyframe per second.
const FILES: &[(&str, &str)] = &[
    ("h264.mp4", "-t 6 -c:v libx264 -preset ultrafast -g 25"),
    ("h264_pyramid.mp4", "-t 6 -c:v libx264 -preset fast -bf 4 -x264-params b-pyramid=normal -g 40"),
    ("h264_10.mp4", "-t 6 -c:v libx264 -preset ultrafast -pix_fmt yuv420p10le -g 25"),
    ("h264_422.mp4", "-t 6 -c:v libx264 -preset ultrafast -pix_fmt yuv422p -g 25"),
    ("h264_422_10.mkv", "-t 6 -c:v libx264 -preset ultrafast -pix_fmt yuv422p10le -g 25"),
    ("h264_444.mp4", "-t 6 -c:v libx264 -preset ultrafast -pix_fmt yuv444p -g 25"),
    ("h264_gray.mp4", "-t 6 -c:v libx264 -preset ultrafast -pix_fmt gray -g 25"),
    ("h264_rgb.mkv", "-t 6 -c:v libx264rgb -preset ultrafast -g 25"),
    ("h264_fields.ts", "-t 6 -vf interlace -c:v libx264 -preset ultrafast -flags +ilme+ildct -g 25"),
    ("h264_open.ts", "-t 6 -vf interlace -c:v libx264 -preset fast -flags +ilme+ildct -x264-params open-gop=1 -g 25"),
    ("h264_odd.mp4", "-t 4 -vf crop=637:475 -c:v libx264 -preset ultrafast -pix_fmt yuv444p -g 25"),
    ("h264_cropped.mp4", "-t 4 -vf scale=426:242 -c:v libx264 -preset ultrafast -g 25"),
    ("h264_fragments.mp4", "-t 6 -c:v libx264 -preset ultrafast -g 25 -movflags frag_keyframe+empty_moov"),
    ("h264_first.mp4", "-t 6 -c:v libx264 -preset ultrafast -g 25 -movflags +faststart"),
    ("h264.flv", "-t 6 -c:v libx264 -preset ultrafast -g 25"),
    ("h264.m2ts", "-t 6 -c:v libx264 -preset ultrafast -g 25"),
    ("h264.nut", "-t 6 -c:v libx264 -preset ultrafast -g 25"),
    ("h264.h264", "-t 6 -c:v libx264 -preset ultrafast -g 25"),
    ("hevc.mp4", "-t 6 -c:v libx265 -preset ultrafast -x265-params log-level=error -g 25"),
    (
        "hevc_pq.mkv",
        "-t 6 -c:v libx265 -preset ultrafast -pix_fmt yuv420p10le -g 25 \
      -x265-params log-level=error:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc",
    ),
    (
        "hevc_hlg.ts",
        "-t 6 -c:v libx265 -preset ultrafast -pix_fmt yuv420p10le -g 25 \
      -x265-params log-level=error:transfer=arib-std-b67",
    ),
    ("hevc_12.mkv", "-t 3 -c:v libx265 -preset ultrafast -pix_fmt yuv420p12le -x265-params log-level=error -g 25"),
    ("hevc_422.mkv", "-t 3 -c:v libx265 -preset ultrafast -pix_fmt yuv422p10le -x265-params log-level=error -g 25"),
    ("hevc_444.mkv", "-t 3 -c:v libx265 -preset ultrafast -pix_fmt yuv444p -x265-params log-level=error -g 25"),
    (
        "hevc_cra.ts",
        "-t 6 -c:v libx265 -preset fast -x265-params log-level=error:open-gop=1:bframes=4:keyint=24:min-keyint=24",
    ),
    ("hevc_cropped.mp4", "-t 3 -vf crop=638:474 -c:v libx265 -preset ultrafast -x265-params log-level=error -g 25"),
    ("hevc.h265", "-t 3 -c:v libx265 -preset ultrafast -x265-params log-level=error -g 25"),
    ("av1.mkv", "-t 3 -c:v libsvtav1 -preset 12 -g 25"),
    ("av1.mp4", "-t 3 -c:v libaom-av1 -cpu-used 8 -usage realtime -g 25"),
    ("av1_10.webm", "-t 3 -c:v libsvtav1 -preset 12 -pix_fmt yuv420p10le -g 25"),
    ("av1.ivf", "-t 3 -c:v libsvtav1 -preset 12 -g 25"),
    ("av1.obu", "-t 3 -c:v libsvtav1 -preset 12 -g 25"),
    ("vp8.webm", "-t 6 -c:v libvpx -deadline realtime -cpu-used 8 -g 25"),
    ("vp8_altref.webm", "-t 4 -c:v libvpx -deadline good -cpu-used 5 -auto-alt-ref 1 -lag-in-frames 16 -g 40"),
    ("vp9.webm", "-t 6 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25"),
    ("vp9_altref.webm", "-t 4 -c:v libvpx-vp9 -deadline good -cpu-used 5 -auto-alt-ref 1 -lag-in-frames 25 -g 40"),
    ("vp9_odd.webm", "-t 4 -vf crop=637:475 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25"),
    ("vp9_10.webm", "-t 3 -c:v libvpx-vp9 -profile:v 2 -pix_fmt yuv420p10le -deadline realtime -cpu-used 8 -g 25"),
    ("vp9_444.webm", "-t 3 -c:v libvpx-vp9 -profile:v 1 -pix_fmt yuv444p -deadline realtime -cpu-used 8 -g 25"),
    ("vp9.ivf", "-t 3 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25"),
    ("mpeg1.mpg", "-t 6 -c:v mpeg1video -g 15 -bf 2"),
    ("mpeg2.mpg", "-t 6 -c:v mpeg2video -g 15 -bf 2 -b:v 3M"),
    ("mpeg2_fields.ts", "-t 6 -vf interlace -c:v mpeg2video -flags +ilme+ildct -g 15 -bf 2 -b:v 3M"),
    ("mpeg2_422.ts", "-t 6 -c:v mpeg2video -pix_fmt yuv422p -g 15 -bf 2 -b:v 3M"),
    ("mpeg2.mxf", "-t 2 -c:v mpeg2video -g 12 -r 25 -b:v 5M"),
    ("mpeg2.m2v", "-t 6 -c:v mpeg2video -g 15 -bf 2"),
    ("mpeg4.avi", "-t 6 -c:v mpeg4 -g 25 -bf 2"),
    ("mpeg4.mp4", "-t 6 -c:v mpeg4 -g 25"),
    ("mpeg4.asf", "-t 6 -c:v mpeg4 -g 25"),
    ("mpeg4.m4v", "-t 6 -c:v mpeg4 -g 25"),
    ("msmpeg4.avi", "-t 6 -c:v msmpeg4 -g 25"),
    ("wmv2.wmv", "-t 6 -c:v wmv2 -g 25"),
    ("h263.3gp", "-t 4 -s 352x288 -c:v h263 -g 25"),
    ("flv1.flv", "-t 6 -c:v flv -g 25"),
    ("theora.ogv", "-t 6 -c:v libtheora -g 25"),
    ("mjpeg.avi", "-t 1 -c:v mjpeg -q:v 3"),
    ("mjpeg_422.mov", "-t 1 -c:v mjpeg -pix_fmt yuvj422p"),
    ("mjpeg.mjpeg", "-t 1 -c:v mjpeg"),
    ("prores.mov", "-t 1 -c:v prores_ks -profile:v 2"),
    ("dnxhd.mov", "-t 1 -s 1280x720 -r 25 -c:v dnxhd -b:v 60M -pix_fmt yuv422p"),
    ("ffv1.mkv", "-t 1 -c:v ffv1 -g 5"),
    ("huffyuv.avi", "-t 1 -c:v huffyuv"),
    ("dv.dv", "-t 1 -s 720x576 -r 25 -pix_fmt yuv420p -c:v dvvideo"),
    ("yuyv.avi", "-t 1 -c:v rawvideo -pix_fmt yuyv422"),
    ("y4m.y4m", "-t 1"),
    ("rgb.png", "-frames:v 1"),
    ("rgba.png", "-frames:v 1 -pix_fmt rgba"),
    ("gray.png", "-frames:v 1 -pix_fmt gray"),
    ("lossy.webp", "-frames:v 1 -c:v libwebp"),
    ("picture.jpg", "-frames:v 1"),
    ("picture.bmp", "-frames:v 1"),
    ("picture.tiff", "-frames:v 1"),
    ("prores_4444.mov", "-t 1 -c:v prores_ks -profile:v 4 -pix_fmt yuv444p10le"),
    ("palette.gif", "-t 1 -s 320x240"),
    ("h264_8k.mp4", "-frames:v 2 -vf scale=8192:4320 -c:v libx264 -preset ultrafast -g 1"),
    ("hevc_8k.mkv", "-frames:v 1 -vf scale=8192:4320 -c:v libx265 -preset ultrafast -x265-params log-level=error"),
    ("mjpeg_8k.jpg", "-frames:v 1 -vf scale=8192:8192"),
    ("pixel.mkv", "-frames:v 3 -vf scale=1:1 -c:v libx264 -pix_fmt yuv444p"),
    ("pixel.webm", "-frames:v 3 -vf scale=1:1 -c:v libvpx-vp9"),
    ("pixel.avi", "-frames:v 3 -vf scale=1:1 -c:v ffv1"),
    ("pixel.png", "-frames:v 1 -vf scale=1:1"),
    ("pixel.jpg", "-frames:v 1 -vf scale=1:1"),
    ("pixel.gif", "-frames:v 1 -vf scale=1:1"),
    ("column.webm", "-frames:v 3 -vf scale=1:480 -c:v libvpx"),
    ("line.mkv", "-frames:v 3 -vf scale=640:1 -c:v libx264 -pix_fmt yuv444p"),
];

/// Returns the time in microseconds and the bytes of each keyframe of a full decode.
fn expected(file: &std::path::Path) -> Vec<(i64, Vec<u8>)> {
    let name = file.file_name().unwrap().to_str().unwrap();
    let decode =
        ["-copyts", "-i", file.to_str().unwrap(), "-map", "0:v:0", "-vf", "select=key", "-vsync", "passthrough"];
    let times = made(&format!("{name}.times"), &[&decode[..], &["-enc_time_base", "-1", "-f", "framecrc"]].concat());
    let bytes = std::fs::read(made(&format!("{name}.raw"), &[&decode[..], &["-f", "rawvideo"]].concat())).unwrap();
    let times = std::fs::read_to_string(times).unwrap();
    let mut base = (1, 1);
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    for line in times.lines() {
        if let Some(text) = line.strip_prefix("#tb 0: ") {
            let (num, den) = text.split_once('/').unwrap();
            base = (num.parse().unwrap(), den.parse().unwrap());
        }
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        let [_, _, pts, _, size, ..] = fields[..] else { continue };
        let (pts, size): (i64, usize) = (pts.parse().unwrap(), size.parse().unwrap());
        let (frame, after) = rest.split_at(size);
        frames.push((pts * base.0 * 1_000_000 / base.1, frame.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    frames
}

#[test]
fn keyframes_match_a_full_decode() {
    let source = clip();
    let mut failures = Vec::new();
    for (name, how) in FILES {
        let how: Vec<_> = how.split_whitespace().collect();
        let file = made(name, &[&["-i", source.to_str().unwrap(), "-an"], &how[..]].concat());
        let expected = expected(&file);
        assert!(!expected.is_empty(), "{name}: ffmpeg decodes nothing of it");
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec ! vxjsonenc", quoted(&file)));
        let times: Vec<i64> = outcome.json().iter().map(|line| line["pts_ns"].as_i64().unwrap_or(0) / 1000).collect();
        let wanted: Vec<i64> = expected.iter().map(|(time, _)| *time).collect();
        // FFmpeg's command assigns times to streams that have none.
        let has_times = !["h264.h264", "hevc.h265", "mpeg4.m4v", "mpeg2.m2v", "mjpeg.mjpeg"].contains(name);
        let same = |(a, b): (&i64, &i64)| (a - b).abs() <= 1;
        if times.len() != wanted.len() || has_times && !times.iter().zip(&wanted).all(same) {
            failures.push(format!("{name}: times {times:?}, not {wanted:?}"));
        }
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
        let found: Vec<_> = outcome.samples.iter().map(planes).collect();
        for (index, (frame, (_, wanted))) in found.iter().zip(&expected).enumerate() {
            if frame != wanted {
                let (found, wanted) = (frame.len(), wanted.len());
                failures.push(format!("{name}: frame {index} differs ({found} and {wanted} bytes)"));
            }
        }
        for leftover in [scratch(&format!("{name}.raw")), file] {
            std::fs::remove_file(leftover).unwrap();
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Keyframes as arrays, compared with FFmpeg, and the detector on them, compared with runs."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import numpy
import pytest
import vx
from conftest import CLIP, MEDIA


def decoded(path: Path, pixel_format: str) -> bytes:
    """Returns the keyframes as FFmpeg decodes them."""
    arguments = ["-v", "error", "-skip_frame", "nokey", "-i", str(path), "-vsync", "0", "-f", "rawvideo"]
    return subprocess.run(
        ["ffmpeg", *arguments, "-pix_fmt", pixel_format, "-"], capture_output=True, check=True
    ).stdout


def packed(planes: tuple[vx.Plane, ...]) -> bytes:
    return b"".join(numpy.ascontiguousarray(plane).tobytes() for plane in planes)


def clip_of(tmp_path: Path, pixel_format: str, codec: str) -> Path:
    clip = tmp_path / f"{pixel_format}.mkv"
    source = ["-f", "lavfi", "-i", "testsrc2=size=322x182:rate=5:duration=2"]
    gop = "4" if codec == "libx264" else "1"
    arguments = ["-pix_fmt", pixel_format, "-c:v", codec, "-g", gop, str(clip)]
    subprocess.run(["ffmpeg", "-v", "error", *source, *arguments], check=True)
    return clip


@pytest.mark.parametrize(
    ("pixel_format", "codec", "shapes"),
    [
        ("yuv420p", "libx264", [(182, 322), (91, 161), (91, 161)]),
        ("yuv422p10le", "ffv1", [(182, 322), (182, 161), (182, 161)]),
        ("gray", "ffv1", [(182, 322)]),
        ("gray16le", "ffv1", [(182, 322)]),
        ("bgr0", "ffv1", [(182, 322, 4)]),
        ("yuyv422", "rawvideo", [(182, 644)]),
    ],
)
def test_native_planes_are_those_of_ffmpeg(
    tmp_path: Path, pixel_format: str, codec: str, shapes: list[tuple[int, ...]]
) -> None:
    clip = clip_of(tmp_path, pixel_format, codec)
    frames = list(vx.keyframes(clip, format="native"))
    assert frames and all(frame.format == pixel_format and frame.is_keyframe for frame in frames)
    assert [numpy.asarray(plane).shape for plane in frames[0].planes] == shapes
    assert b"".join(packed(frame.planes) for frame in frames) == decoded(clip, pixel_format)


def test_arrays_show_the_memory_of_the_decoder() -> None:
    iterator = vx.keyframes(CLIP)
    frame = next(iterator)
    first, again = frame.array, numpy.asarray(frame)
    assert numpy.shares_memory(first, again) and first.shape == (480, 640, 3)
    assert not first.flags.writeable and not numpy.shares_memory(first, numpy.array(frame, copy=True))
    with pytest.raises(TypeError, match="read-only"):
        memoryview(frame.planes[0]).cast("B")[0] = 1  # type: ignore[index]
    copy = first.copy()
    del frame, again
    iterator.close()
    # The array owns the picture.
    assert (first == copy).all() and copy.any()


def test_formats_sizes_and_times() -> None:
    rgb, bgr = (next(vx.keyframes(CLIP, format=name)).array for name in ("rgb", "bgr"))
    assert (rgb == bgr[..., ::-1]).all()
    with vx.keyframes(CLIP, size=(None, 90), max_frames=2) as frames:
        assert frames.info["codec"].startswith("H.264") and str(frames.path) == str(CLIP)
        small = list(frames)
    assert [(frame.width, frame.height) for frame in small] == [(120, 90)] * 2
    records = [record for record in vx.detect(CLIP) if isinstance(record, vx.Frame)]
    assert [frame.pts_ns for frame in vx.keyframes(CLIP)] == [record.pts_ns for record in records]
    dense = list(vx.keyframes(CLIP, max_gap="500ms", format="gray", size=(64, 36)))
    assert len(dense) > len(records) and not all(frame.is_keyframe for frame in dense)
    upright, stored = (next(vx.keyframes(MEDIA / "vga_portrait_unlabelled.mp4", upright=flag)) for flag in (True, False))
    assert upright.width <= stored.width


def test_wrong_files_and_arguments_are_errors(tmp_path: Path) -> None:
    with pytest.raises(vx.Error) as raised:
        vx.keyframes("/nowhere/a.mp4")
    assert (raised.value.stage, raised.value.file) == ("reading", "/nowhere/a.mp4")
    for arguments in [{"format": "purple"}, {"size": (100_000, None)}, {"max_gap": "soon"}]:
        with pytest.raises(vx.Error) as raised:
            vx.keyframes(CLIP, **arguments)  # type: ignore[arg-type]
        assert raised.value.stage == "settings"
    with pytest.raises(ValueError, match="planes"):
        next(vx.keyframes(CLIP, format="native")).array
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(CLIP.read_bytes()[: CLIP.stat().st_size * 3 // 4])
    try:
        with pytest.warns(vx.VxWarning, match="damaged.mp4"):
            list(vx.keyframes(damaged))
    except vx.Error as error:
        assert "damaged.mp4" in str(error)


def test_the_detector_finds_what_a_run_finds() -> None:
    detector = vx.Detector(provider="cpu", confidence=0.1)
    assert detector.classes and detector.engine["provider"] == "CPUExecutionProvider"
    for path in [CLIP, MEDIA / "orientation6_ignored.png", MEDIA / "gray_to_I420.jpg"]:
        run = vx.detect(path, provider="cpu", confidence=0.1)
        expected = [record.detections for record in run if isinstance(record, vx.Frame)]
        frames = list(vx.keyframes(path, format="native"))
        assert [detector(frame) for frame in frames] == expected
        assert detector.batch(frames) == expected


def test_the_order_of_channels_is_said() -> None:
    with vx.Detector(provider="cpu", confidence=0.1) as detector:
        array = next(vx.keyframes(CLIP)).array
        expected = detector(array, format="rgb")
        assert expected and detector(array[..., ::-1], format="bgr") == expected
        alpha = numpy.full((480, 640, 1), 255, numpy.uint8)
        assert detector(numpy.concatenate([array, alpha], 2), format="rgba") == expected
        assert detector(array[:180], format="rgb") == detector(array[:180].copy(), format="rgb")
        for image, format_, word in [
            (array, None, "OpenCV"),
            (array, "rgba", "channels"),
            (array.astype(numpy.float32), "rgb", "uint8"),
            (array[0], "rgb", "rows"),
            ("picture.jpg", "rgb", "array"),
        ]:
            with pytest.raises(TypeError, match=word):
                detector(image, format=format_)  # type: ignore[arg-type]
        with pytest.raises(vx.Error, match="hsv"):
            detector(array, format="hsv")  # type: ignore[arg-type]
        with pytest.raises(vx.Error, match="0x0"):
            detector(array[:0, :0], format="rgb")
    with pytest.raises(vx.Error, match="closed"):
        detector(array, format="rgb")


def test_threads_share_a_detector() -> None:
    detector = vx.Detector(provider="cpu")
    frame = next(vx.keyframes(CLIP))
    expected, results = detector(frame), []
    workers = [threading.Thread(target=lambda: results.extend(detector.batch([frame] * 4))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [expected] * 16

# SPDX-License-Identifier: MIT OR Apache-2.0
"""The functions of the package, with their arguments and defaults. What they do is in the extension module."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Union

from . import _vx

if TYPE_CHECKING:
    from ._vx import Detection, FileList, Keyframe, Keyframes, Plan, Run

Path = Union[str, "os.PathLike[str]"]
Inputs = Union[Path, "FileList", Iterable[Union[Path, "FileList"]]]
Duration = Union[float, str, timedelta]
Format = Literal["rgb", "bgr", "rgba", "bgra", "gray"]


def detect(
    inputs: Inputs,
    *,
    model: Path | None = None,
    labels: Path | None = None,
    confidence: float | None = None,
    iou: float = 0.7,
    classes: str | Sequence[str | int] | None = None,
    provider: str = "auto",
    cache_dir: Path | None = None,
    every: Duration | None = None,
    set: Mapping[str, Any] | None = None,
    output: Path | None = None,
    format: str | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    lanes: int | None = None,
    order: Literal["largest-first", "as-given"] = "largest-first",
    stop_on_error: bool = False,
    memory_limit: int | str | None = None,
    file_timeout: Duration | None = None,
    shard: str | tuple[int, int] | None = None,
    probe: bool = False,
    cache: Path | None = None,
    save_frames: Path | None = None,
    which_frames: Literal["detections", "all"] | None = None,
    draw: bool = False,
    isolate: bool = False,
) -> Run:
    """Detects objects on the keyframes of files, and returns an iterator of `Frame` and, at the end of each file, `FileSummary`.

    Arguments are the options of the command `vx detect`:

    inputs          files, folders (searched recursively), patterns (`*`, `?`, `[…]`, `**`), or a `FileList`
    model           ONNX model; None: the built-in person detector
    labels          file with class names, one per line, or an Ultralytics data.yaml
    confidence      confidence above which a detection counts, 0 to 1; the model's recommendation by default, or 0.25
    iou             overlap above which the less confident of two boxes is dropped, 0 to 1
    classes         names or numbers of the classes to detect; None: all
    provider        execution provider, or the path of a plugin provider's library
    cache_dir       folder for compiled models, which make later starts faster; "": none; None: vx in the user's cache directory
    every           detect on frames this far apart; None: on all keyframes
    set             other properties of `vxbulkbin` or of an element in it: {"max-gap": "1s", "detector::precision": "bf16"}
    output          output file; its extension selects the format
    format          format of the output, whatever its extension
    resume          continue an output; unchanged files in it are kept, and have no records in the iterator
    retry_failed    with `resume`, read files again that failed before
    overwrite       replace an output that exists
    lanes           number of files read at once; None: planned
    order           order in which files are read
    stop_on_error   start no other file after one has failed, and raise `Error`
    memory_limit    memory to plan with, in bytes or "800M"; None: 80 % of what is available
    file_timeout    time after which a file fails
    shard           read one of several shares of the files: "3/16" or (3, 16)
    probe           also read files in folders that are media by content
    cache           folder for results that are reused while nothing has changed
    save_frames     folder for keyframes as JPEG files
    which_frames    keyframes to save; None: those with detections
    draw            draw detections into the saved keyframes
    isolate         read files in separate processes; a crash costs one file

    Durations are seconds, text such as "1.5s" or "5m", or `timedelta`.

    A file that cannot be read does not end the run: its summary has the status "failed". `Error` is raised for wrong arguments, inputs and
    outputs, and when the run cannot continue. `close()`, the end of a `with` block, Ctrl-C and dropping the iterator stop the run at once.
    In a coroutine use `async for`; the call then returns at once, and the first iteration raises what is wrong.

    >>> import vx
    >>> run = vx.detect("examples/media/scenes.mp4", provider="cpu")
    >>> [record.status for record in run if isinstance(record, vx.FileSummary)]
    ['ok']
    >>> run.summary.files, run.summary.failed
    (1, 0)
    """
    arguments = dict(locals())
    del arguments["inputs"]
    return _vx.detect(inputs, _plain(arguments))


def plan(inputs: Inputs, **options: Any) -> Plan:
    """Finds the files and loads the model, but reads no file and writes nothing. Arguments are those of `detect`.

    >>> import vx
    >>> vx.plan("examples/media/", provider="cpu").files
    ['examples/media/scenes.mp4']
    """
    return _vx.plan(inputs, _arguments(options))


def keyframes(
    path: Path,
    *,
    format: str = "rgb",
    size: tuple[int | None, int | None] | None = None,
    max_gap: Duration | None = None,
    min_interval: Duration | None = None,
    max_frames: int | None = None,
    threads: int | None = None,
    upright: bool = True,
) -> Keyframes:
    """Returns an iterator of the keyframes of a file as pictures, in order of presentation.

    format          "rgb", "bgr", FFmpeg's name of a pixel format, or "native": as decoded, without a copy
    size            (width, height) in pixels, None in one place keeps the shape; None: as stored
    max_gap         also read frames between keyframes that are farther apart than this
    min_interval    skip keyframes that are closer than this to the one before
    max_frames      most frames to read
    threads         decoder threads; None: one for each core, at most eight
    upright         apply the container's rotation

    `Keyframe.array` is a numpy array, `Keyframe.planes` are buffers; both show the decoder's own memory and are read-only. Keyframes that
    cannot be decoded are left out, with a `VxWarning` at the end.

    >>> import vx
    >>> frame = next(vx.keyframes("examples/media/scenes.mp4", size=(320, None)))
    >>> frame.array.shape, frame.seconds
    ((240, 320, 3), 0.0)
    >>> frame = next(vx.keyframes("examples/media/scenes.mp4", format="native"))
    >>> frame.format, [memoryview(plane).shape for plane in frame.planes]
    ('yuv420p', [(480, 640), (240, 320), (240, 320)])
    """
    return _vx.keyframes(path, format, size, max_gap, min_interval, max_frames, threads, upright)


class Detector(_vx.Detector):
    """A loaded model for pictures from elsewhere: OpenCV, PIL, PyAV, or `keyframes`.

    Arguments are those of `detect` that are about the model: model, labels, confidence, iou, classes, provider, cache_dir, set,
    memory_limit. Calls from several threads share the model, and so do runs of `detect` with the same arguments.

    >>> import vx
    >>> detector = vx.Detector(provider="cpu", confidence=0.5)
    >>> frame = next(vx.keyframes("examples/media/scenes.mp4"))
    >>> detector(frame) == detector(frame.array, format="rgb")
    True
    >>> [len(found) for found in detector.batch([frame.array, frame.array[:100]], format="rgb")]  # doctest: +ELLIPSIS
    [...]
    """

    def __new__(
        cls,
        model: Path | None = None,
        *,
        labels: Path | None = None,
        confidence: float | None = None,
        iou: float = 0.7,
        classes: str | Sequence[str | int] | None = None,
        provider: str = "auto",
        cache_dir: Path | None = None,
        set: Mapping[str, Any] | None = None,
        memory_limit: int | str | None = None,
    ) -> Detector:
        arguments = dict(locals())
        del arguments["cls"]
        arguments.pop("__class__", None)
        return super().__new__(cls, _arguments(arguments))

    def __call__(self, image: Any, format: Format | None = None) -> tuple[Detection, ...]:
        """Returns the detections on a picture, by falling confidence.

        `image` is a `Keyframe`, or an array of bytes with rows, columns and channels, whose order `format` says: "rgb" (PIL, PyAV's
        rgb24), "bgr" (OpenCV), "rgba", "bgra", "gray".
        """
        return self._detect(image, format)

    def batch(self, images: Iterable[Any], format: Format | None = None) -> list[tuple[Detection, ...]]:
        """Returns the detections on each of several pictures, which are analysed together."""
        return self._batch(images, format)


# The defaults of `detect`.
_DEFAULTS: dict[str, Any] = dict(detect.__kwdefaults__ or {})


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    if arguments["set"] is not None:
        arguments["set"] = dict(arguments["set"])
    return arguments


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in options if name not in _DEFAULTS]
    if unknown:
        raise TypeError(f"unknown arguments: {', '.join(unknown)}; those of vx.detect are {', '.join(_DEFAULTS)}")
    return _plain({**_DEFAULTS, **options})

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Objects on the keyframes of media files.

>>> import vx
>>> for record in vx.detect("examples/media/scenes.mp4", confidence=0.5):
...     if isinstance(record, vx.Frame):
...         people = sum(found.label == "person" for found in record.detections)
...         print(record.seconds, people)  # doctest: +ELLIPSIS
0.0 ...

`detect` reads many files, `keyframes` decodes those of one file into arrays, `Detector` runs a model on pictures from elsewhere.
"""

from __future__ import annotations

import atexit as _atexit

from . import _libraries
from ._detect import Detector, detect, keyframes, plan
from ._vx import (
    ArrowStream,
    Detection,
    Error,
    FileList,
    FileSummary,
    Frame,
    Keyframe,
    Keyframes,
    Mask,
    Plan,
    Plane,
    Run,
    Summary,
    VxWarning,
    __version__,
    _close_all,
)

__all__ = [
    "ArrowStream",
    "Detection",
    "Detector",
    "Error",
    "FileList",
    "FileSummary",
    "Frame",
    "Keyframe",
    "Keyframes",
    "Mask",
    "Plan",
    "Plane",
    "Run",
    "Summary",
    "VxWarning",
    "__version__",
    "detect",
    "keyframes",
    "plan",
]

_libraries.add()
_atexit.register(_close_all)

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Where ONNX Runtime is searched: beside this package, in the checkout that it was built from, in the package onnxruntime of pip.

ORT_DYLIB_PATH comes before these, and the folders of the system after them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from . import _vx


def add() -> None:
    """Adds the folders to those that are searched."""
    _vx._add_library_dirs([Path(__file__).parent / "lib"], _of_pip())


def _of_pip() -> list[Path]:
    """Returns the folder of the library in pip's onnxruntime, without importing that."""
    spec = importlib.util.find_spec("onnxruntime")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return [Path(folder) / "capi" for folder in folders]

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Records in pickles, which are their class and their JSON."""

from __future__ import annotations

from typing import Any

from . import _vx


def load(kind: str, *arguments: Any) -> Any:
    """Returns a record of the class `kind`."""
    return getattr(_vx, kind).from_json(*arguments)

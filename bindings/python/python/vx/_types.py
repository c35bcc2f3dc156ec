# SPDX-License-Identifier: MIT OR Apache-2.0
"""The dictionaries that describe engines, files and progress."""

from __future__ import annotations

from typing import TypedDict


class EngineReport(TypedDict, total=False):
    """The engine, and how often a model was loaded in this process; `lanes` and `decoder_threads` are those of a run."""

    model: str
    provider: str
    device: str
    precision: str
    sessions: int
    intra_op_threads: int
    model_loads: int
    lanes: int
    decoder_threads: int


class FileProgress(TypedDict):
    """How far a file is: `share` is 0 to 1."""

    file: str
    frames: int
    detections: int
    share: float


class FileInfo(TypedDict, total=False):
    """What a file contains."""

    container: str
    codec: str
    duration_ns: int | None
    frame_rate: tuple[int, int] | None
    is_interlaced: bool
    title: str | None

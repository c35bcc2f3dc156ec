# SPDX-License-Identifier: MIT OR Apache-2.0
"""The queries of the manual's page about DuckDB."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import vx
from conftest import CLIP, ROOT


def test_queries_find_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    shutil.copyfile(CLIP, recordings / "scenes.mp4")
    (recordings / "broken.mp4").write_bytes(CLIP.read_bytes()[:2000])
    monkeypatch.chdir(tmp_path)
    records = list(vx.detect("recordings/", output="found.parquet", provider="cpu"))
    frames = [record for record in records if isinstance(record, vx.Frame) and record.detections]
    page = (ROOT / "docs/duckdb.md").read_text()
    queries = re.findall(r"^```sql\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    files, most, large, visits, nothing = [duckdb.sql(query).fetchall() for query in queries]
    assert files == [("recordings/scenes.mp4", "person", len(frames), frames[0].seconds, frames[-1].seconds)]
    assert len(most) == min(10, len(frames)) and most[0][2:] == (1, ["person"])
    assert large and all(share >= 0.25 for *_, share in large)
    assert sum(visit[-1] for visit in visits) == len(frames) and visits[0][3] == frames[0].seconds
    assert [row[:3] for row in nothing] == [("recordings/broken.mp4", "failed", 0)] and nothing[0][3]

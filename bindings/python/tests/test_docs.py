# SPDX-License-Identifier: MIT OR Apache-2.0
"""The programs and queries of the manual's pages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import vx
from conftest import CLIP, ROOT


def blocks(page: str, language: str) -> list[str]:
    """Returns the code blocks of a page."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with recordings, one of which is damaged."""
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    shutil.copyfile(CLIP, recordings / "scenes.mp4")
    (recordings / "broken.mp4").write_bytes(CLIP.read_bytes()[:2000])
    return tmp_path


@pytest.mark.parametrize("page", ["python.md", "duckdb.md"])
def test_programs_run(page: str, project: Path) -> None:
    for module in ("numpy", "duckdb", "pandas", "polars", "pyarrow"):
        pytest.importorskip(module)
    programs = blocks(page, "python")
    assert len(programs) >= 2
    for program in programs:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=project)
        assert done.returncode == 0 and done.stdout, f"{program}\n{done.stderr}"


def test_queries_find_what_is_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(project)
    records = list(vx.detect("recordings/", output="found.parquet", provider="cpu"))
    frames = [record for record in records if isinstance(record, vx.Frame) and record.detections]
    results = [duckdb.sql(query).fetchall() for query in blocks("duckdb.md", "sql")]
    files, most, large, visits, nothing = results
    assert files == [("recordings/scenes.mp4", "person", len(frames), frames[0].seconds, frames[-1].seconds)]
    assert len(most) == min(10, len(frames)) and most[0][2:] == (1, ["person"])
    assert large and all(share >= 0.25 for *_, share in large)
    assert sum(visit[-1] for visit in visits) == len(frames) and visits[0][3] == frames[0].seconds
    assert [row[:3] for row in nothing] == [("recordings/broken.mp4", "failed", 0)] and nothing[0][3]

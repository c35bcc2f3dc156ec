# SPDX-License-Identifier: MIT OR Apache-2.0
"""Types, and the examples in docstrings."""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import vx
import vx._detect
from conftest import CLIP, ROOT

USE = """
import vx
from typing import assert_type

def use(run: vx.Run) -> None:
    for record in run:
        if isinstance(record, vx.Frame):
            assert_type(record.detections[0].box, tuple[float, float, float, float])
        else:
            assert_type(record, vx.FileSummary)
    if run.summary is not None and run.summary.engine is not None:
        assert_type(run.summary.engine["model_loads"], int)
    assert_type(vx.Detector("model.onnx")(None, format="bgr"), tuple[vx.Detection, ...])

async def wait() -> None:
    async with vx.detect(["a.mp4"], classes=["person", 3], every=1.5) as run:
        async for record in run:
            assert_type(record, vx.Frame | vx.FileSummary)

vx.detect("a.mp4", order="random")  # type: ignore[arg-type]
vx.detect("a.mp4", colour="red")  # type: ignore[call-arg]
"""


def test_examples_in_docstrings_run() -> None:
    for module in (vx, vx._detect):
        result = doctest.testmod(module)
        assert result.attempted > 0 and result.failed == 0


def test_types_are_complete_and_those_of_the_module(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    use = tmp_path / "use.py"
    use.write_text(USE)
    package = Path(vx.__file__).parent
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(use)], capture_output=True, text=True, cwd=tmp_path
    )
    assert checked.returncode == 0, checked.stdout
    # A copy, because mypy does not check what is installed, nor run beside its own files.
    shutil.copytree(package, tmp_path / "vx")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "-p", "vx"], capture_output=True, text=True, cwd=tmp_path
    )
    assert checked.returncode == 0, checked.stdout
    # The stubs describe the extension module as it is.
    checked = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "vx._vx", "--ignore-missing-stub", "--ignore-positional-only"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert checked.returncode == 0, checked.stdout


def blocks(page: str) -> list[str]:
    """Returns the blocks of Python in a page of the manual."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("python.md") + blocks("duckdb.md"), ids=lambda block: block.strip().splitlines()[-1])
def test_examples_in_the_manual_run(tmp_path: Path, block: str) -> None:
    (tmp_path / "recordings").mkdir()
    shutil.copyfile(CLIP, tmp_path / "recordings/scenes.mp4")
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr

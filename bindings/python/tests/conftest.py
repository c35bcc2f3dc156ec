# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the tests share: files, and the command that results are compared with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CLIP = ROOT / "examples/media/scenes.mp4"
# Pictures, clips of several containers, rotated, grey, with alpha, with 16 bits, and some that are damaged.
MEDIA = ROOT / "tests/media"

# The documentation's examples name files relative to the project.
os.chdir(ROOT)


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """Files of many kinds, one of which cannot be read."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(CLIP.read_bytes()[:2000])
    return [str(CLIP), *sorted(str(file) for file in MEDIA.iterdir() if file.suffix != ".md"), str(broken)]


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A folder with enough files that a run lasts for a while."""
    folder = tmp_path / "copies"
    folder.mkdir()
    for number in range(60):
        shutil.copyfile(CLIP, folder / f"{number:03}.mp4")
    return folder


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The command `vx`, as built by `make build`."""
    named = os.environ.get("VX_COMMAND")
    built = [Path(named)] if named else [ROOT / "target/release/vx", ROOT / "target/debug/vx"]
    found = next((file for file in built if file.is_file()), None)
    if found is None:
        pytest.skip("the command vx is not built: run `make build`, or set VX_COMMAND")
    return [str(found)]


def python(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs code in an interpreter of its own."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300, cwd=ROOT, **options
    )

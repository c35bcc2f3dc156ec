# SPDX-License-Identifier: MIT OR Apache-2.0
"""`python -m vx`, compared with the command."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CLIP, ROOT

PYTHON = [sys.executable, "-m", "vx"]


def output(program: list[str], *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=300, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["detect", "--help"],
        ["detect", "-h"],
        ["completions", "bash"],
        ["man", "detect"],
        ["detect", "--no-such-option"],
        ["detect", "--draw", "a.mp4"],
        ["detect"],
        ["detect", "--quiet", "/nowhere/b*.mp4"],
        ["detect", "--set", "nothing=1", str(CLIP)],
        ["inspect", "/nowhere/a.mp4"],
        ["detect", "--worker"],
    ],
    ids=" ".join,
)
def test_it_prints_what_the_command_prints(command: list[str], arguments: list[str]) -> None:
    assert output(PYTHON, *arguments) == output(command, *arguments)


@pytest.mark.parametrize("isolate", [[], ["--isolate"]])
def test_it_detects_as_the_command_does(command: list[str], inputs: list[str], isolate: list[str]) -> None:
    arguments = ["detect", "--quiet", "--provider=cpu", *isolate, *inputs]
    ours, theirs = output(PYTHON, *arguments), output(command, *arguments)
    frames = [sorted(line for line in each[1].splitlines() if '"status":' not in line) for each in (ours, theirs)]
    assert ours[0] == theirs[0] == 1 and frames[0] == frames[1] and frames[0]


def test_signals_end_it_as_they_end_the_command(copies: Path) -> None:
    child = subprocess.Popen([*PYTHON, "detect", str(copies)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 130 and "vx: interrupted" in errors and "Traceback" not in errors, errors

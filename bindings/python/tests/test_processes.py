# SPDX-License-Identifier: MIT OR Apache-2.0
"""Signals, event loops, forked and spawned processes, and other libraries in the process."""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import vx
from conftest import CLIP, ROOT, python

COUNT = """
import sys, vx
def count(path):
    return sum(isinstance(record, vx.Frame) for record in vx.detect(path, provider="cpu"))
"""


def count(path: str) -> int:
    return sum(isinstance(record, vx.Frame) for record in vx.detect(path, provider="cpu"))


def interrupted(code: str, *arguments: str) -> tuple[int, str]:
    """Sends SIGINT when the code has printed a line; returns its exit status and what it printed to standard error."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None and child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    return child.returncode, errors


@pytest.mark.parametrize(
    "loop",
    [
        "for record in vx.detect(sys.argv[1], lanes=1): print('begun', flush=True) if begun == 0 else None; begun += 1",
        "import pyarrow; run = vx.detect(sys.argv[1], lanes=1); next(run); print('begun', flush=True); pyarrow.table(run)",
        "detector = vx.Detector(); frame = next(vx.keyframes(sys.argv[1] + '/000.mp4'))\n"
        "while True: detector.batch([frame] * 50); print('begun', flush=True)",
        "import itertools\nfor path in itertools.cycle([sys.argv[1] + '/000.mp4']):\n"
        "  for frame in vx.keyframes(path): print('begun', flush=True)",
    ],
    ids=["iterator", "arrow", "detector", "keyframes"],
)
def test_ctrl_c_ends_a_wait(copies: Path, loop: str) -> None:
    status, errors = interrupted(f"import sys, vx\nbegun = 0\n{loop}\nprint('end')", str(copies))
    assert status != 0 and "KeyboardInterrupt" in errors, (status, errors)


def test_ctrl_c_in_a_coroutine_ends_the_run(copies: Path) -> None:
    code = """
import asyncio, sys, vx
async def main():
    async for record in vx.detect(sys.argv[1], lanes=1):
        print("begun", flush=True)
asyncio.run(main())
"""
    status, errors = interrupted(code, str(copies))
    assert status != 0 and "KeyboardInterrupt" in errors, (status, errors)


def test_a_process_may_end_in_the_middle_of_a_run(copies: Path) -> None:
    code = "import sys, vx\nrun = vx.detect(sys.argv[1]); next(run)\nframes = vx.keyframes(sys.argv[1] + '/000.mp4'); sys.exit(7)"
    done = python(code, str(copies))
    assert (done.returncode, done.stderr) == (7, "")


def test_an_event_loop_goes_on_while_a_run_starts_and_waits() -> None:
    async def main() -> tuple[int, list[str]]:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.001)

        heart = asyncio.create_task(beat())
        records: list[str] = []
        beats_before = 0
        async with vx.detect(CLIP, provider="cpu") as run:
            async for record in run:
                # The model is loaded before the first record, which takes longer than a beat.
                beats_before = beats_before or beats
                records.append(record.to_json())
        heart.cancel()
        return beats_before, records

    beats_before, records = asyncio.run(main())
    assert beats_before > 2
    frames = [record.to_json() for record in vx.detect(CLIP, provider="cpu") if isinstance(record, vx.Frame)]
    assert records[:-1] == frames and '"status":"ok"' in records[-1]


def test_errors_reach_a_coroutine_and_a_cancelled_task_ends_its_run(copies: Path) -> None:
    async def fails() -> None:
        async for _ in vx.detect("ftp://host/a.mp4"):
            pass

    with pytest.raises(vx.Error) as raised:
        asyncio.run(fails())
    assert raised.value.stage == "inputs"

    async def cancelled() -> vx.Run:
        run = vx.detect(copies, lanes=1)
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in run:
                begun.set()

        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return run

    run = asyncio.run(cancelled())
    rest = list(run)
    assert run.summary is not None and run.summary.is_cancelled and len(rest) < 60


def test_spawned_processes_have_vx_of_their_own() -> None:
    expected = count(str(CLIP))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(count, [str(CLIP)] * 2) == [expected] * 2


def test_a_fork_after_use_is_an_error_and_ends() -> None:
    code = (
        COUNT
        + """
import os, multiprocessing
count(sys.argv[1])
run, detector = vx.detect(sys.argv[1]), vx.Detector()
next(run)
def child():
    for use in [lambda: count(sys.argv[1]), lambda: next(run), lambda: vx.keyframes(sys.argv[1]), vx.Detector, run.close]:
        try:
            use()
            print("used", flush=True)
        except vx.Error as error:
            print("spawn" in error.remedy and "fork" in str(error), flush=True)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
print(process.exitcode, flush=True)
# With the finalizers of the interpreter.
pid = os.fork()
if pid == 0:
    del run, detector
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    done = python(code, str(CLIP))
    assert done.stdout.split() == ["True"] * 5 + ["0", "3"], done


def test_a_fork_before_use_works() -> None:
    code = (
        COUNT
        + """
import multiprocessing
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.map(count, [sys.argv[1]])[0] == count(sys.argv[1]))
"""
    )
    done = python(code, str(CLIP))
    assert done.stdout.split() == ["True"], done


def test_onnxruntime_of_pip_and_vx_work_in_one_process() -> None:
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("the package onnxruntime is not installed")
    model = ROOT / "tests/models/all_zero.onnx"
    use = f"""
import numpy, onnxruntime
session = onnxruntime.InferenceSession({str(model)!r}, providers=["CPUExecutionProvider"])
def run():
    each = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 1 for side in each.shape]
    return len(session.run(None, {{each.name: numpy.zeros(shape, numpy.float32)}}))
"""
    for first, second in [(use, COUNT), (COUNT, use)]:
        code = f"{first}\n{second}\nprint(run(), count(sys.argv[1]) > 0, run())"
        done = python(code, str(CLIP))
        assert done.stdout.split() == ["1", "True", "1"], done


def test_gstreamer_of_pygobject_and_vx_work_in_one_process() -> None:
    code = """
import sys
sys.path.append(sys.argv[2])
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
BEFORE_INIT
Gst.init(None)
AFTER_INIT
pipeline = Gst.parse_launch("videotestsrc num-buffers=3 ! fakesink")
pipeline.set_state(Gst.State.PLAYING)
message = pipeline.get_bus().timed_pop_filtered(Gst.SECOND * 30, Gst.MessageType.EOS | Gst.MessageType.ERROR)
print(message.type == Gst.MessageType.EOS, count(sys.argv[1]) > 0)
pipeline.set_state(Gst.State.NULL)
"""
    system = "/usr/bin/python3"
    checked = subprocess.run(
        [system, "-c", "import gi, sys; gi.require_version('Gst', '1.0'); sys.exit(sys.version_info < (3, 11))"],
        capture_output=True,
    )
    if checked.returncode != 0:
        pytest.skip(f"{system} has no PyGObject with GStreamer (Debian: python3-gi, gir1.2-gstreamer-1.0)")
    package = str(Path(vx.__file__).parent.parent)
    use = COUNT + "count(sys.argv[1])"
    for order in [("", use), (use, "")]:
        complete = code.replace("BEFORE_INIT", order[0]).replace("AFTER_INIT", order[1])
        done = subprocess.run(
            [system, "-c", complete, str(CLIP), package], capture_output=True, text=True, timeout=300, cwd=ROOT
        )
        assert done.stdout.split() == ["True", "True"], done


def test_numpy_is_not_needed() -> None:
    code = """
import sys
sys.modules["numpy"] = None
import vx
frame = next(vx.keyframes(sys.argv[1]))
view = memoryview(frame.planes[0])
print(view.shape, len(vx.Detector()(view, format="rgb")) == len(vx.Detector()(frame)))
"""
    done = python(code, str(CLIP))
    assert done.stdout.strip() == "(480, 640, 3) True", done


def test_a_run_works_in_any_folder(tmp_path: Path) -> None:
    done = python(COUNT + "import os; os.chdir(sys.argv[2]); print(count(sys.argv[1]) > 0)", str(CLIP), str(tmp_path))
    assert done.stdout.strip() == "True", done

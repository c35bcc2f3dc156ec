# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs: records, options, errors, and the ways in which a run ends."""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import pickle
import re
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import vx
from conftest import CLIP, MEDIA, python


def lines_of(command: list[str], *arguments: str) -> list[str]:
    done = subprocess.run([*command, "detect", "--quiet", *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def without_times(line: str) -> str:
    """Returns a summary without what differs from run to run."""
    summary = json.loads(line)
    del summary["seconds"]
    return json.dumps(summary)


def threads() -> list[str]:
    """Returns the names of this process's threads that belong to a run."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            names.append((task / "comm").read_text().strip())
    return [name for name in names if name.startswith("vxbulkbin")]


def wait_for_no_run() -> None:
    """Waits for the system to remove the threads of a run that has ended."""
    deadline = time.monotonic() + 30
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()


@pytest.mark.parametrize("options", [{}, {"isolate": True}, {"every": "1s", "confidence": 0.1}])
def test_records_are_the_lines_of_the_command(command: list[str], inputs: list[str], options: dict[str, object]) -> None:
    switches = [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()]
    lines = lines_of(command, "--provider=cpu", *switches, *inputs)
    records = list(vx.detect(inputs, provider="cpu", **options))  # type: ignore[arg-type]
    frames = [record.to_json() for record in records if isinstance(record, vx.Frame)]
    assert sorted(frames) == sorted(line for line in lines if '"status":' not in line)
    summaries = [without_times(record.to_json()) for record in records if isinstance(record, vx.FileSummary)]
    assert sorted(summaries) == sorted(without_times(line) for line in lines if '"status":' in line)
    assert len(frames) > len(inputs) / 2


def test_a_record_has_the_fields_of_its_line() -> None:
    records = list(vx.detect(CLIP, provider="cpu"))
    frame = next(record for record in records if isinstance(record, vx.Frame) and record.detections)
    line = json.loads(frame.to_json())
    found = frame.detections[0]
    assert (frame.file, frame.pts_ns, frame.width, frame.height) == (str(CLIP), line["pts_ns"], 640, 480)
    assert frame.seconds == line["pts_ns"] / 1e9 and frame.is_keyframe and frame.is_analysed
    assert (found.label, found.class_id, found.confidence, list(found.box)) == (
        line["detections"][0]["label"],
        line["detections"][0]["class_id"],
        line["detections"][0]["confidence"],
        line["detections"][0]["box"],
    )
    assert (found.keypoints, found.rotated_box, found.mask) == ([], None, None)
    assert frame.to_dict() == line and found.to_dict() == line["detections"][0]
    summary = records[-1]
    assert isinstance(summary, vx.FileSummary)
    assert (summary.status, summary.complete, summary.error, summary.is_cached) == ("ok", True, None, False)
    assert summary.keyframes == len(records) - 1 and summary.bytes == CLIP.stat().st_size
    assert summary.seconds["total"] > 0 and summary.duration_seconds and summary.bytes_read > 0
    for record in [frame, found, summary]:
        assert pickle.loads(pickle.dumps(record)) == record
    assert frame != records[0] or frame is records[0]
    assert "scenes.mp4" in repr(frame) and found.label in repr(found) and "ok" in repr(summary)


def test_every_option_of_the_command_is_an_argument(command: list[str]) -> None:
    text = subprocess.run([*command, "detect", "--help"], capture_output=True, text=True, check=True).stdout
    options = {name.replace("-", "_") for name in re.findall(r"^\s+(?:-\w, )?--([a-z][a-z-]+)", text, re.MULTILINE)}
    # A list on standard input (`FileList`), what the command prints, a plan (`vx.plan`), a page (`vx report`), and help.
    options -= {"null", "quiet", "debug", "dry_run", "report", "help", "version"}
    arguments = set(inspect.signature(vx.detect).parameters) - {"inputs"}
    assert arguments == options


def test_defaults_are_those_of_the_command(command: list[str], tmp_path: Path) -> None:
    output = tmp_path / "found.jsonl"
    lines_of(command, "--output", str(output), str(CLIP))
    # An output is continued only with equal settings.
    run = vx.detect([CLIP, MEDIA / "gray_to_I420.jpg"], output=output, resume=True)
    assert run.files == [str(MEDIA / "gray_to_I420.jpg")]
    assert {record.file for record in run} == {str(MEDIA / "gray_to_I420.jpg")}
    with pytest.raises(vx.Error, match="confidence"):
        vx.detect(CLIP, output=output, resume=True, confidence=0.3)


def test_arguments_have_the_types_of_python(tmp_path: Path) -> None:
    files = {str(CLIP), str(MEDIA / "gray_to_I420.jpg")}
    shares = [vx.plan(files, shard=(number, 2), provider="cpu").files for number in (1, 2)]
    assert set(shares[0]) | set(shares[1]) == files and not set(shares[0]) & set(shares[1])
    assert vx.plan(files, shard="1/2", provider="cpu").files == shares[0]
    run = vx.detect(
        iter([CLIP]),
        classes=["person", 0],
        every=timedelta(seconds=2),
        file_timeout=60,
        memory_limit="800M",
        set={"max-frames": 1, "detector::class-agnostic": True},
        order="as-given",
        which_frames="all",
        save_frames=tmp_path / "pictures",
        draw=True,
    )
    assert sum(isinstance(record, vx.Frame) for record in run) == 1
    assert len(list(tmp_path.glob("pictures/*/*.jpg"))) == 1
    names = vx.FileList([str(CLIP), "/nowhere/[a].mp4"])
    statuses = {record.file: record.status for record in vx.detect(names) if isinstance(record, vx.FileSummary)}
    assert statuses == {str(CLIP): "ok", "/nowhere/[a].mp4": "failed"} and names.names[0] == str(CLIP)


def test_the_cache_and_the_output_are_those_of_the_command(command: list[str], tmp_path: Path) -> None:
    # The automatic provider of a process depends on the ONNX Runtime that it has loaded before.
    lines_of(command, "--provider", "cpu", "--cache", str(tmp_path / "cache"), str(CLIP))
    run = vx.detect(CLIP, provider="cpu", cache=tmp_path / "cache", output=tmp_path / "found.csv")
    records = list(run)
    assert isinstance(records[-1], vx.FileSummary) and records[-1].is_cached
    assert run.summary is not None and (run.summary.cached, run.summary.files) == (1, 1)
    rows = (tmp_path / "found.csv").read_text().splitlines()
    assert len(rows) == 1 + run.summary.detections


def test_errors_say_stage_file_and_remedy(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_text("not a model")
    output = tmp_path / "found.jsonl"
    output.write_text("")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, stage, file in [
        ({"inputs": empty}, "inputs", None),
        ({"inputs": "ftp://host/a.mp4"}, "inputs", "ftp://host/a.mp4"),
        ({"output": output}, "output", str(output)),
        ({"set": {"no-such-property": 1}}, "settings", None),
        ({"every": "soon"}, "settings", None),
        ({"draw": True}, "settings", None),
        ({"resume": True, "overwrite": True}, "settings", None),
        ({"order": "random"}, "settings", None),
        ({"memory_limit": "1 potato"}, "settings", None),
    ]:
        with pytest.raises(vx.Error) as raised:
            vx.detect(**{"inputs": CLIP, **arguments})  # type: ignore[arg-type]
        error = raised.value
        assert (error.stage, error.file) == (stage, file), error
        assert bool(error.remedy) == (file == str(output) or arguments == {"inputs": empty})
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.stage, copy.file) == (str(error), stage, file)
    # The model is loaded by the run.
    with pytest.raises(vx.Error, match="model.onnx") as raised:
        list(vx.detect(CLIP, model=model))
    assert raised.value.stage == "model"
    with pytest.raises(TypeError, match="sequence"):
        vx.detect(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="colour"):
        vx.plan(CLIP, colour="red")


def test_onnx_runtime_that_is_missing_is_named() -> None:
    code = "import sys, vx\ntry: list(vx.detect(sys.argv[1]))\nexcept vx.Error as error: print(error.stage, error)"
    environment = {"ORT_DYLIB_PATH": "/nowhere/libonnxruntime.so"}
    done = python(code, str(CLIP), env=environment)
    assert done.stdout.startswith("model ") and "/nowhere/libonnxruntime.so" in done.stdout, done


def test_a_file_that_fails_does_not_end_a_run(inputs: list[str]) -> None:
    run = vx.detect([inputs[-1], CLIP])
    summaries = {record.file: record for record in run if isinstance(record, vx.FileSummary)}
    failed = summaries[inputs[-1]]
    assert failed.status == "failed" and failed.error and summaries[str(CLIP)].status == "ok"
    assert run.summary is not None and (run.summary.files, run.summary.failed, run.summary.missing) == (2, 1, 0)
    with pytest.raises(vx.Error, match="broken.mp4"):
        list(vx.detect([inputs[-1], CLIP], stop_on_error=True))


def test_a_run_can_be_stopped_and_finished(copies: Path) -> None:
    run = vx.detect(copies)
    assert len(run.files) == 60
    next(run)
    run.finish()
    files = [record.file for record in run if isinstance(record, vx.FileSummary)]
    summary = run.summary
    assert summary is not None and summary.is_cancelled and 0 < len(files) < 60
    assert summary.missing == 60 - len(files)
    with vx.detect(copies) as run:
        next(run)
    assert list(run) == [] and run.summary is not None and run.summary.is_cancelled
    run.close()


def test_exceptions_in_loops_and_dropped_iterators_end_runs(copies: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in vx.detect(copies):
            raise ZeroDivisionError
    wait_for_no_run()
    run = vx.detect(copies)
    next(run)
    assert threads()
    del run
    gc.collect()
    wait_for_no_run()
    # In a cycle, which only the collector finds.
    cycle: list[object] = [vx.detect(copies)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    wait_for_no_run()


def test_threads_share_a_run(copies: Path) -> None:
    run = vx.detect(copies, lanes=2)
    taken: list[list[str]] = [[], [], []]

    def take(mine: list[str]) -> None:
        mine.extend(record.to_json() for record in run)

    workers = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = [line for mine in taken for line in mine]
    assert len(lines) == len(set(lines)) and sum('"status":' in line for line in lines) == 60
    assert run.summary is not None and run.summary.files == 60


def test_runs_at_once_share_the_model() -> None:
    detector = vx.Detector(provider="cpu")
    loads = detector.engine["model_loads"]
    runs = [vx.detect(CLIP, provider="cpu") for _ in range(3)]
    counts = [sum(isinstance(record, vx.Frame) for record in run) for run in runs]
    assert counts[0] > 0 and len(set(counts)) == 1
    assert detector.engine["model_loads"] == loads
    assert [run.summary.engine["model_loads"] for run in runs if run.summary and run.summary.engine] == [loads] * 3


def test_warnings_are_warnings_of_python(tmp_path: Path) -> None:
    labels = tmp_path / "names.txt"
    labels.write_text("one\ntwo\nthree\n")
    with pytest.warns(vx.VxWarning):
        list(vx.detect(CLIP, labels=labels))


def test_memory_stops_growing_over_thousands_of_frames(tmp_path: Path) -> None:
    # In a process of its own, so that other tests do not count. What is lost grows in every round, pools in the first ones.
    code = """
import sys, vx
def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
def read():
    frames = 0
    for record in vx.detect(sys.argv[1], provider="cpu", model=sys.argv[2]):
        frames += isinstance(record, vx.Frame)
    for frame in vx.keyframes(sys.argv[1]):
        frames += frame.array.shape[2] == 3
    return frames
memory = []
while len(memory) < 2 or len(memory) < 8 and memory[-1] - memory[-2] >= 8_000:
    assert read() == 2 * 1000
    memory.append(resident())
print(*memory)
"""
    clip = tmp_path / "long.mp4"
    source = "testsrc=size=320x180:rate=25:duration=40"
    made = subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-g", "1", "-c:v", "mpeg4", str(clip)])
    assert made.returncode == 0
    done = python(code, str(clip), str(MEDIA.parent / "models/all_zero.onnx"))
    assert done.returncode == 0, done.stderr
    memory = [int(kilobytes) for kilobytes in done.stdout.split()]
    # The pictures of a round have 170 MB.
    assert memory[-1] - memory[-2] < 8_000, f"memory grew in every round: {memory} kB"

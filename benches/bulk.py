#!/usr/bin/env python3
"""Compares `vx detect` on many files with sequential work, with one process per file, and with the ideal.

    benches/bulk.py [--model MODEL.onnx] [--provider cpu] [--rounds 3] [--quick] [--json FILE]

The corpus is made of photographs (../shared/images if it exists, else the pictures of the clip in the repository), one per
keyframe: 720p, 1080p and 4K in h264 and hevc; uniform, short, and with lengths that differ by a factor of 23. Each round runs
every way once, in an order that shifts by one. Figures are medians over the rounds, with the slowest and the fastest, and cover whole
processes including their start. Processor time is that of all threads, so it depends little on what else the machine does. Ways:

  one core    the same command limited to one core (taskset): one lane, one session, one thread
  one lane    one lane, one decoder thread, one session of one thread, on all cores
  habit       one process per file, one after the other, each like `one core`: every process loads the model
  habit free  the same, each like `one lane`
  bulk        as planned; also with 1, 2, 4 and 8 lanes

The ideal is the time of decoding alone plus the time of the model alone, each on all cores. Needs `make build` and the
commands ffmpeg and taskset.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VX = ROOT / "target/release/vx"
PLUGINS = ROOT / "target/plugins"
CORPUS = ROOT / "target/bench-corpus"
CLIP = ROOT / "examples/media/scenes.mp4"
PHOTOGRAPHS = ROOT.parent / "shared/images"
MODEL = ROOT.parent / "shared/models/yolov8n_fp32_dynamic.onnx"

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "4K": (3840, 2160)}
ENCODERS = {
    "h264": ["-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0"],
    "hevc": ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:scenecut=0"],
}
# Frames per keyframe; together they last one second.
GOP = 5
ONE_LANE = ["--lanes", "1", "--set", "detector::sessions=1", "--set", "detector::intra-op-threads=1",
            "--set", "decoder::thread-count=1"]
ONE_CORE = ["taskset", "-c", "0"]
# No frame has such a region, so the model is loaded but never run.
DECODE_ONLY = ["--set", "detector::region-type=none"]


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


def reel(size, codec, keyframes):
    """Creates a file with one photograph per second."""
    path = CORPUS / f"reel_{size}_{codec}_{keyframes}.mp4"
    if path.exists():
        return path
    width, height = SIZES[size]
    photographs = sorted(PHOTOGRAPHS.glob("*.jpg"))
    fit = f"scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height},format=yuv420p"
    if photographs:
        source = ["-framerate", "1", "-pattern_type", "glob", "-i", str(PHOTOGRAPHS / "*.jpg")]
    else:
        source = ["-stream_loop", "-1", "-i", str(CLIP)]
    part = path.with_suffix(".part.mp4")
    run(["ffmpeg", "-nostdin", "-v", "error", "-y", *source, "-an", "-vf", fit, "-r", str(GOP), "-t", str(keyframes),
         *ENCODERS[codec], "-g", str(GOP), "-keyint_min", str(GOP), part])
    part.rename(path)
    return path


def files(name, size, codec, lengths, keyframes_of_reel):
    """Creates files with these numbers of keyframes, cut from a reel."""
    folder = CORPUS / f"{name}_{size}_{codec}"
    source = reel(size, codec, keyframes_of_reel)
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, length in enumerate(lengths):
        path = folder / f"{number:03}_{length}.mp4"
        paths.append(path)
        if not path.exists():
            start = number * 7 % (keyframes_of_reel - length + 1)
            part = path.with_suffix(".part.mp4")
            run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-ss", str(start), "-t", f"{length - 0.5}", "-i", source,
                 "-c", "copy", part])
            part.rename(path)
    return paths


class Runner:
    def __init__(self, model, provider):
        self.common = ["--provider", provider, *(["--model", str(model)] if model else [])]
        self.provider = provider
        self.model = model

    def vx(self, paths, more=(), prefix=()):
        """Runs `vx detect`; returns its cost and its messages."""
        command = [*prefix, VX, "detect", "-", *self.common, *more]
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write("\n".join(map(str, paths)).encode())
        process.stdin.close()
        first = process.stdout.readline()
        latency = time.monotonic() - started
        lines = (first + process.stdout.read()).decode().splitlines()
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        if status != 0:
            sys.exit(f"bulk.py: {' '.join(map(str, command))} failed:\n{said}")
        records = [json.loads(line) for line in lines]
        summaries = [record for record in records if "status" in record]
        loads = re.search(r"loaded (\d+) time", said)
        return {
            "seconds": seconds,
            "first_line": latency,
            "peak_mib": usage.ru_maxrss / 1024,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "model_loads": int(loads.group(1)) if loads else None,
            "keyframes": sum(summary["keyframes"] for summary in summaries),
            "lock_wait": sum(summary["seconds"]["lock_wait"] for summary in summaries),
            "lock_hold": sum(summary["seconds"]["lock_hold"] for summary in summaries),
            "detections": sorted(line for line, record in zip(lines, records) if "status" not in record),
        }

    def habit(self, paths, more=(), prefix=()):
        """Runs one process per file."""
        runs = [self.vx([path], more, prefix) for path in paths]
        total = {key: sum(run[key] for run in runs) for key in ("seconds", "cpu_seconds", "keyframes", "lock_wait", "lock_hold", "model_loads")}
        total["peak_mib"] = max(run["peak_mib"] for run in runs)
        total["first_line"] = runs[0]["first_line"]
        total["detections"] = sorted(line for run in runs for line in run["detections"])
        return total

    def model_alone(self, keyframes, size):
        """Returns the seconds and those of processor time for this number of cheap identical frames on all cores, without loading."""
        width, height = SIZES[size]
        environment = dict(os.environ, GST_PLUGIN_PATH=str(PLUGINS), GST_REGISTRY=str(ROOT / "target/gst-registry.bin"))

        def frames(count):
            model = [f"model-file={self.model}"] if self.model else []
            line = ["gst-launch-1.0", "-q", "videotestsrc", "num-buffers=1", "!",
                    f"video/x-raw,format=I420,width={width},height={height}", "!", "imagefreeze", f"num-buffers={count}", "!",
                    "vxyolodetect", *model, f"execution-provider={self.provider}", "!", "fakesink", "sync=false"]
            started, before = time.monotonic(), children_cpu()
            run(line, env=environment)
            return time.monotonic() - started, children_cpu() - before

        return [long - short for long, short in zip(frames(keyframes + 1), frames(1))]


def children_cpu():
    """Returns the processor time of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def middle(values):
    return statistics.median(values)


def shown(values, unit="", digits=2):
    return f"{middle(values):.{digits}f}{unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def measure(runner, title, paths, rounds, ways, size):
    """Runs every way once in every round."""
    cores = os.cpu_count()
    possible = {
        "one core": lambda: runner.vx(paths, prefix=ONE_CORE),
        "one lane": lambda: runner.vx(paths, ONE_LANE),
        "habit": lambda: runner.habit(paths, prefix=ONE_CORE),
        "habit free": lambda: runner.habit(paths, ONE_LANE),
        "bulk": lambda: runner.vx(paths),
        "longest": lambda: runner.vx([max(paths, key=lambda path: path.stat().st_size)]),
        "decode alone": lambda: runner.vx(paths, DECODE_ONLY),
        **{f"lanes {lanes}": (lambda lanes=lanes: runner.vx(paths, ["--lanes", str(lanes)])) for lanes in (1, 2, 4, 8)},
    }
    runs = {way: [] for way in ways}
    model_alone = []
    for number in range(rounds):
        first = number % len(ways)
        for way in ways[first:] + ways[:first]:
            runs[way].append(possible[way]())
        if "decode alone" in ways:
            model_alone.append(runner.model_alone(runs["decode alone"][0]["keyframes"], size))
    keyframes = runs["bulk"][0]["keyframes"]
    print(f"\n{title}: {len(paths)} files, {keyframes} keyframes, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB")
    report = {"files": len(paths), "keyframes": keyframes, "ways": {}}
    seconds = {way: [run["seconds"] for run in taken] for way, taken in runs.items()}
    cpu = {way: [run["cpu_seconds"] for run in taken] for way, taken in runs.items()}
    for way, taken in runs.items():
        times = seconds[way]
        peak = max(run["peak_mib"] for run in taken)
        loads = taken[0]["model_loads"]
        count = 1 if way == "longest" else len(paths)
        first = [run["first_line"] for run in taken]
        costs = [1000 * run["cpu_seconds"] / run["keyframes"] for run in taken]
        print(f"  {way:12} {shown(times, ' s')}, {taken[0]['keyframes'] / middle(times):.1f} keyframes/s, {count / middle(times):.2f} files/s, "
              f"processor {shown(costs, ' ms', 1)} a keyframe, first line after {middle(first):.2f} s, {peak:.0f} MiB, model loaded {loads} time(s)")
        report["ways"][way] = {"seconds": times, "processor_seconds": cpu[way], "peak_mib": peak, "model_loads": loads, "first_line_seconds": first}
    bulk = seconds["bulk"]

    def ratio(way, divisor=1):
        return [other / own / divisor for other, own in zip(seconds[way], bulk)]

    facts = {}
    for way in ("one core", "one lane", "habit", "habit free"):
        if way in ways:
            facts[f"bulk over {way}"] = ratio(way)
            facts[f"processor time, {way} over bulk"] = [other / own for other, own in zip(cpu[way], cpu["bulk"])]
    if "one core" in ways:
        facts[f"parallel efficiency ({cores} cores)"] = ratio("one core", cores)
    if "decode alone" in ways:
        start = runner.start_seconds
        ideal = [decode - start + model for decode, (model, _) in zip(seconds["decode alone"], model_alone)]
        # Decoding alone contains the processor time of the start, as bulk does.
        work = [decode + model for decode, (_, model) in zip(cpu["decode alone"], model_alone)]
        facts["processor time, ideal over bulk"] = [ideal_cpu / own for ideal_cpu, own in zip(work, cpu["bulk"])]
        facts["ideal over bulk, start-up left out"] = [i / (b - start) for i, b in zip(ideal, bulk)]
        facts["ideal plus start-up over bulk"] = [(i + start) / b for i, b in zip(ideal, bulk)]
        report["ideal_seconds"] = ideal
        print(f"  {'ideal':12} {shown(ideal, ' s')}: decoding alone and the model alone, without start-up ({start:.2f} s)")
        if "longest" in ways:
            bound = [max(i + start, own) for i, own in zip(ideal, seconds["longest"])]
            facts["bulk over the longer of the longest file and the ideal"] = [b / limit for b, limit in zip(bulk, bound)]
    share = [run["lock_hold"] / run["seconds"] for run in runs["bulk"]]
    facts["lock held, share of the time"] = share
    facts["lock waited for, seconds over all lanes"] = [run["lock_wait"] for run in runs["bulk"]]
    for name, values in facts.items():
        print(f"  {name}: {shown(values, digits=3)}")
    others = [way for way in ("habit", "habit free", "one lane", "one core") if way in ways]
    if others:
        same = all(runs[way][0]["detections"] == runs["bulk"][0]["detections"] for way in others)
        print(f"  lines as of {', '.join(others)}: {'identical' if same else 'DIFFERENT'}")
        report["identical"] = same
    report["facts"] = facts
    return report


def versions():
    said = run([VX, "doctor"], env=dict(os.environ, GST_PLUGIN_PATH=str(PLUGINS))).stdout
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "doctor": said.splitlines()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=pathlib.Path, default=MODEL if MODEL.exists() else None)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="ten files of 1080p h264 and nothing else")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    for needed in (VX, PLUGINS):
        if not needed.exists():
            sys.exit("bulk.py: nothing is built yet: run `make build`")
    for command in ("ffmpeg", "taskset"):
        if not shutil.which(command):
            sys.exit(f"bulk.py: the command {command} is needed")
    if not PHOTOGRAPHS.exists():
        print("the photographs beside the project are missing: pictures are those of its clip")
    CORPUS.mkdir(parents=True, exist_ok=True)
    about = versions()
    model = arguments.model.name if arguments.model else "the built-in model"
    print(f"{about['cpu']}, {about['cores']} cores, {about['system']}; {model}, provider {arguments.provider}, {arguments.rounds} rounds")
    print("\n".join(about["doctor"]))
    report = {"about": about, "model": model, "provider": arguments.provider, "corpora": {}}
    runner = Runner(arguments.model, arguments.provider)
    one = files("uniform", "1080p", "h264", [10] * 10, 130)[:1]
    # A run with almost no decoding and no inference: process, plugin, model.
    runner.start_seconds = middle([runner.vx(files("start", "720p", "h264", [1], 24), DECODE_ONLY)["seconds"] for _ in range(5)])

    def add(title, paths, ways, size, rounds=arguments.rounds):
        report["corpora"][title] = measure(runner, title, paths, rounds, ways, size)

    full = ["one core", "one lane", "habit", "habit free", "bulk", "decode alone"]
    lanes = [f"lanes {count}" for count in (1, 2, 4, 8)]
    add("10 uniform files, 1080p h264", files("uniform", "1080p", "h264", [10] * 10, 130), full + lanes, "1080p")
    if not arguments.quick:
        add("1 file, 1080p h264", one, ["one core", "one lane", "bulk"], "1080p")
        # From 2 to 46 keyframes: a factor of 23.
        spread = [2 + round(44 * (number / 9) ** 3) for number in range(10)]
        add("10 files, sizes 1 to 23, 1080p h264", files("spread", "1080p", "h264", spread, 130),
            ["one core", "bulk", "longest", "decode alone"], "1080p")
        add("50 short files (2 s), 1080p h264", files("short", "1080p", "h264", [2] * 50, 130), full, "1080p")
        add("100 files, 1080p h264", files("many", "1080p", "h264", [5] * 100, 130), ["one core", "bulk"], "1080p", 1)
        for size, codec in [("720p", "h264"), ("720p", "hevc"), ("1080p", "hevc"), ("4K", "h264"), ("4K", "hevc")]:
            add(f"10 uniform files, {size} {codec}", files("uniform", size, codec, [6] * 10, 24), ["one core", "bulk", "decode alone"], size)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

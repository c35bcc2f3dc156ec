#!/usr/bin/env python3
"""Compares the keyframes per second of vxkeyframedec and the FFmpeg command, with the same files and number of threads.

    benches/keyframes.py [--rounds 7] [--threads 2] [--json FILE] [FILE...]

Without files it creates some from the clip in the repository: 720p, 1080p and 4K in h264 and hevc. Each round runs every
way once, one after the other. Figures are medians over the rounds, with the slowest and the fastest, and the median processor time
for each keyframe. They cover whole processes including their start. Requires only `make build`.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLIP = ROOT / "examples/media/scenes.mp4"
PLUGINS = ROOT / "target/plugins"

# Name, size, seconds, encoder. One keyframe in ten frames.
MADE = [
    ("720p h264", "1280:720", 120, ["-c:v", "libx264", "-preset", "veryfast", "-g", "10"]),
    ("1080p h264", "1920:1080", 80, ["-c:v", "libx264", "-preset", "veryfast", "-g", "10"]),
    ("4K h264", "3840:2160", 32, ["-c:v", "libx264", "-preset", "veryfast", "-g", "10"]),
    ("720p hevc", "1280:720", 80, ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=10"]),
    ("1080p hevc", "1920:1080", 48, ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=10"]),
    ("4K hevc", "3840:2160", 16, ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=10"]),
]


def made(folder):
    files = {}
    for name, size, seconds, encoder in MADE:
        path = folder / (name.replace(" ", "_") + ".mp4")
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-stream_loop", "-1", "-i", CLIP, "-an", "-t", str(seconds)]
        subprocess.run([*command, "-vf", f"scale={size}", *encoder, path], check=True)
        files[name] = path
    return files


def keyframes(path):
    probe = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "packet=flags", "-of", "csv=p=0", path]
    packets = subprocess.run(probe, check=True, capture_output=True, text=True).stdout.split()
    return sum(flags.startswith("K") for flags in packets)


def processor_seconds():
    """Returns the processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ways(path, threads):
    environment = dict(os.environ, GST_PLUGIN_PATH=str(PLUGINS), GST_REGISTRY=str(ROOT / "target/gst-registry.bin"))

    def vx(*properties):
        line = ["gst-launch-1.0", "-q", "filesrc", f"location={path}", "!", "vxkeyframedec", *properties, "!", "fakesink"]
        return lambda: subprocess.run(line, check=True, capture_output=True, env=environment)

    def ffmpeg(count):
        line = ["ffmpeg", "-nostdin", "-v", "quiet", "-threads", str(count), "-discard", "nokey", "-skip_frame", "nokey"]
        return lambda: subprocess.run([*line, "-i", path, "-an", "-f", "null", "-"], check=True)

    return {
        f"ffmpeg {threads}": ffmpeg(threads),
        f"vx frame {threads}": vx(f"thread-count={threads}", "thread-type=frame"),
        f"vx slice {threads}": vx(f"thread-count={threads}", "thread-type=slice"),
        "ffmpeg 1": ffmpeg(1),
        "vx none": vx("thread-type=none"),
        "vx no filter": vx("thread-type=none", "skip-loop-filter=all"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    if not PLUGINS.exists():
        sys.exit("keyframes.py: nothing is built yet: run `make build`")
    version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout.split("\n")[0]
    report = {"machine": platform.platform(), "cores": os.cpu_count(), "ffmpeg": version, "files": {}}
    print(f"{report['machine']}, {report['cores']} cores, {version}")
    with tempfile.TemporaryDirectory() as folder:
        files = {path.name: path for path in arguments.files} or made(pathlib.Path(folder))
        for name, path in files.items():
            count = keyframes(path)
            runs = ways(path, arguments.threads)
            seconds, used = {way: [] for way in runs}, {way: [] for way in runs}
            for _ in range(arguments.rounds):
                for way, run in runs.items():
                    started, used_before = time.monotonic(), processor_seconds()
                    run()
                    seconds[way].append(time.monotonic() - started)
                    used[way].append(processor_seconds() - used_before)
            rates = {way: [count / second for second in taken] for way, taken in seconds.items()}
            costs = {way: [1000 * second / count for second in taken] for way, taken in used.items()}
            report["files"][name] = {"keyframes": count, "keyframes_per_second": rates, "processor_ms_per_keyframe": costs}
            print(f"\n{name}: {count} keyframes")
            for way, values in rates.items():
                spread = f"({min(values):.1f} to {max(values):.1f})"
                cost = statistics.median(costs[way])
                print(f"  {way:14} {statistics.median(values):7.1f} keyframes/s {spread:20} {cost:6.2f} ms of a processor each")
            many, one = f"vx frame {arguments.threads}", f"ffmpeg {arguments.threads}"
            for ours, theirs in [(many, one), ("vx none", "ffmpeg 1"), ("vx no filter", "vx none")]:
                ratio = statistics.median(rates[ours]) / statistics.median(rates[theirs])
                print(f"  {ours} is {ratio:.2f} of {theirs}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

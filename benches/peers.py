#!/usr/bin/env python3
"""Compares vx with the programs that people write for the same task: keyframes only, the same models, the same files.

    make build
    pip install av opencv-python-headless numpy onnx onnxruntime openvino ultralytics
    benches/peers.py CLIP MODEL.onnx [--rounds 5] [--copies 2] [--json FILE]
    benches/peers.py --table docs        # the tables of docs/performance.md, in 40 minutes on two cores

Contenders, all of which read the same copies of the clip:

  Python loop        PyAV, OpenCV, ONNX Runtime with all cores: one frame after the other
  Python processes   as many such processes as cores, with one thread each, which share the copies
  OpenVINO queue     PyAV in threads, OpenVINO's asynchronous queue in its default precision
  Ultralytics        its own `predict`, on keyframes from PyAV
  onnxinference      GStreamer 1.26, a pipeline for each copy: qtdemux ! identity drop-buffer-flags=delta-unit ! avdec_h264 !
                     videoconvertscale ! onnxinference; tensors only, no boxes. Runs as root in the tree of `make test-debian13`
                     (--debian13 ROOT)
  vx launch, cpu     gst-launch-1.0 with a pipeline for each copy, on the CPU provider
  vx detect, cpu     the command `vx detect`, on the CPU provider
  vx detect, auto    the same on the automatic provider

The Python programs are in benches/peers/. --python names other interpreters that have the packages (for example of virtual
environments); a contender without its packages is left out with a note.

Each round runs every contender once, in an order that shifts by one. Rates and processor time cover whole processes, from start to
end: the median of the rounds, slowest to fastest. The ideal is measured in each round too: the processor time of decoding alone and that
of the model alone, at the input size that vx uses, over the cores. "No start" subtracts what the same command takes for one keyframe
of each copy.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import bulk

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "benches/peers"
SHARED = ROOT.parent / "shared"
CORES = len(os.sched_getaffinity(0))
GSTREAMER = dict(os.environ, GST_PLUGIN_PATH=str(ROOT / "target/plugins"), GST_REGISTRY=str(ROOT / "target/gst-registry.bin"))

PACKAGES = {"Python loop": "av cv2 numpy onnxruntime", "Python processes": "av cv2 numpy onnxruntime",
            "OpenVINO queue": "av cv2 numpy openvino", "Ultralytics": "av cv2 numpy onnxruntime ultralytics"}


class Failure(Exception):
    """A contender that did not do its work."""


class Run:
    """One contender in one round: keyframes, detections, seconds from start to end, seconds of processor time."""

    def __init__(self, commands, counted, env=None):
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            started = time.monotonic()
            processes = [subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err) for command in commands]
            results = [os.wait4(process.pid, 0) for process in processes]
            self.seconds = time.monotonic() - started
            self.cpu = sum(usage.ru_utime + usage.ru_stime for _, _, usage in results)
            out.seek(0), err.seek(0)
            for process, (_, status, _) in zip(processes, results):
                process.returncode = status
            if any(status for _, status, _ in results):
                last = "\n".join(err.read().strip().splitlines()[-5:])
                raise Failure(f"{' '.join(map(str, commands[0][:3]))} ... failed:\n{last}")
            self.keyframes, self.detections = counted(out.read())


def counted_by_programs(text):
    """Reads "KEYFRAMES DETECTIONS" of each process."""
    numbers = [int(word) for line in text.splitlines() for word in line.split()]
    return sum(numbers[::2]), sum(numbers[1::2])


def counted_in_lines(text):
    """Counts keyframes and detections in the JSON lines of vx, not those of files."""
    records = [json.loads(line) for line in text.splitlines()]
    frames = [record for record in records if "detections" in record]
    return len(frames), sum(len(frame["detections"]) for frame in frames)


class Case:
    """A clip, a model, and the ways to run them."""

    def __init__(self, title, copies, model, arguments):
        self.title, self.copies, self.model, self.arguments = title, copies, model, arguments
        self.size = [f"input-size={arguments.size}"] if arguments.size else []

    def python(self, name, program, *more):
        interpreter = self.arguments.interpreters[name]
        return [interpreter, PROGRAMS / program, *more, self.model]

    def launch(self, provider, decoder=(), sink=("vxjsonenc", "!", "fdsink")):
        """Returns gst-launch-1.0 with a pipeline for each copy."""
        branches = (["filesrc", f"location={path}", "!", "vxkeyframedec", *decoder, "!", "vxyolodetect", f"model-file={self.model}",
                     f"execution-provider={provider}", *self.size, "!", *sink] for path in self.copies)
        return ["gst-launch-1.0", "-q", *(word for branch in branches for word in branch)]

    def detect(self, provider, *more):
        sizes = [f"--set=detector::{size}" for size in self.size]
        return [bulk.VX, "detect", *self.copies, "--model", self.model, "--provider", provider, "--format", "jsonl", *sizes, *more]

    def contenders(self):
        quiet = dict(os.environ, YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_VERBOSE="false")
        shares = [self.copies[first::CORES] for first in range(min(CORES, len(self.copies)))]
        return {
            "Python loop": lambda: Run([[*self.python("Python loop", "python_loop.py", "0"), *self.copies]], counted_by_programs),
            "Python processes": lambda: Run([[*self.python("Python processes", "python_loop.py", "1"), *share] for share in shares],
                                            counted_by_programs),
            "OpenVINO queue": lambda: Run([[*self.python("OpenVINO queue", "openvino_queue.py"), *self.copies]], counted_by_programs),
            "Ultralytics": lambda: Run([[*self.python("Ultralytics", "ultralytics_predict.py"), *self.copies]], counted_by_programs, quiet),
            "onnxinference": lambda: self.arguments.debian13.run(self.copies, self.model),
            "vx launch, cpu": lambda: Run([self.launch("cpu")], counted_in_lines, GSTREAMER),
            "vx detect, cpu": lambda: Run([self.detect("cpu")], counted_in_lines, GSTREAMER),
            "vx detect, auto": lambda: Run([self.detect("auto")], counted_in_lines, GSTREAMER),
        }

    def ideal(self, provider, keyframes):
        """Returns the milliseconds of processor time for each keyframe of decoding alone and of the model alone."""

        def cpu(*line):
            return Run([["gst-launch-1.0", "-q", *line]], lambda _: (0, 0), GSTREAMER).cpu

        def reading(*decoder):
            return cpu("filesrc", f"location={self.copies[0]}", "!", "vxkeyframedec", *decoder, "!", "fakesink")

        def model(frames):
            # Repeats one picture of the clip, so that producing frames costs nothing.
            return cpu("filesrc", f"location={self.copies[0]}", "!", "vxkeyframedec", "!", "imagefreeze", f"num-buffers={frames}", "!",
                       "vxyolodetect", f"model-file={self.model}", f"execution-provider={provider}", *self.size, "!", "fakesink")

        each = keyframes // len(self.copies)
        return 1000 * (reading() - reading("max-frames=1")) / (each - 1), 1000 * (model(each + 1) - model(1)) / each

    def start(self, name):
        """Runs a contender of vx for one keyframe of each copy."""
        provider = name.split(", ")[1]
        command = (self.launch(provider, ["max-frames=1"]) if "launch" in name
                   else self.detect(provider, "--set", "decoder::max-frames=1"))
        return Run([command], counted_in_lines, GSTREAMER)

    def measure(self):
        """Runs all rounds; returns the figures."""
        contenders = {name: run for name, run in self.contenders().items()
                      if name not in self.arguments.left_out and self.arguments.only in name}
        runs, ideals, starts = {name: [] for name in contenders}, {"cpu": [], "auto": []}, {}
        for number in range(self.arguments.rounds):
            names = list(contenders)
            for name in names[number % len(names):] + names[:number % len(names)]:
                try:
                    runs[name].append(contenders[name]())
                except Failure as failure:
                    note(f"left out: {name} with {self.model.name}: {failure}")
                    del contenders[name], runs[name]
            for provider, taken in ideals.items():
                measured = next((runs[name] for name in runs if name.startswith("vx") and name.endswith(provider)), None)
                if measured:
                    taken.append(self.ideal(provider, measured[0].keyframes))
            for name in runs:
                if name.startswith("vx"):
                    starts.setdefault(name, []).append(self.start(name))
        if not runs:
            sys.exit("peers.py: no contender is left")
        return Figures(self, runs, ideals, starts)


class Figures:
    """What a case came to."""

    def __init__(self, case, runs, ideals, starts):
        self.title, self.model, self.keyframes, self.runs = case.title, case.model.name, next(iter(runs.values()))[0].keyframes, runs
        self.rates = {name: [run.keyframes / run.seconds for run in taken] for name, taken in runs.items()}
        self.costs = {name: [1000 * run.cpu / run.keyframes for run in taken] for name, taken in runs.items()}
        self.detections = {name: taken[0].detections for name, taken in runs.items()}
        self.ideals = {provider: taken for provider, taken in ideals.items() if taken}
        for provider, taken in self.ideals.items():
            name = f"ideal, {provider}"
            self.costs[name] = [decoding + model for decoding, model in taken]
            self.rates[name] = [1000 * CORES / cost for cost in self.costs[name]]
        # What remains without the start, as (keyframes/s, milliseconds of processor time for each keyframe).
        self.lean = {name: [((run.keyframes - start.keyframes) / (run.seconds - start.seconds),
                             1000 * (run.cpu - start.cpu) / (run.keyframes - start.keyframes)) for run, start in zip(runs[name], taken)]
                     for name, taken in starts.items()}
        for name, taken in runs.items():
            if any(run.keyframes != self.keyframes for run in taken):
                note(f"{name} with {self.model}: {taken[0].keyframes} keyframes in place of {self.keyframes}")

    def ratio(self, one, other):
        """Returns how many times as fast as `other` a contender is, in wall time and in processor time."""
        if one not in self.rates or other not in self.rates:
            return None
        middle = statistics.median
        return (middle(self.rates[one]) / middle(self.rates[other]), middle(self.costs[other]) / middle(self.costs[one]))

    def ratios(self):
        pairs = [("vx detect, cpu", "Python processes"), ("vx detect, auto", "OpenVINO queue"), ("vx detect, cpu", "ideal, cpu"),
                 ("vx launch, cpu", "ideal, cpu"), ("vx detect, auto", "ideal, auto")]
        return {f"{one} / {other}": self.ratio(one, other) for one, other in pairs if self.ratio(one, other)}

    def of_ideal_without_start(self):
        """Returns the share of the ideal that contenders of vx reach without their start, in wall time and in processor time."""
        shares = {}
        for name, taken in self.lean.items():
            ideal = f"ideal, {name.split(', ')[1]}"
            rate, cost = (statistics.median(values) for values in zip(*taken))
            shares[name] = rate / statistics.median(self.rates[ideal]), statistics.median(self.costs[ideal]) / cost
        return shares

    def report(self):
        return {"clip": self.title, "model": self.model, "keyframes": self.keyframes, "keyframes_per_second": self.rates,
                "processor_ms_per_keyframe": self.costs, "without_start": {name: [{"keyframes_per_second": rate, "processor_ms_per_keyframe": cost} for rate, cost in taken]
                                  for name, taken in self.lean.items()},
                "detections": self.detections,
                "ideal_ms": {provider: [{"decoding": decoding, "model": model} for decoding, model in taken]
                             for provider, taken in self.ideals.items()},
                "ratios": {pair: {"wall": wall, "processor": processor} for pair, (wall, processor) in self.ratios().items()},
                "of_ideal_without_start": self.of_ideal_without_start()}

    def print(self):
        print(f"\n{self.title}, {self.model}: {self.keyframes} keyframes\n"
              f"{'':18} {'keyframes/s':26} {'processor ms/keyframe':26} {'both without start':20} detections")
        for name, rates in self.rates.items():
            lean = ", ".join(f"{statistics.median(values):.1f}" for values in zip(*self.lean.get(name, [])))
            print(f"{name:18} {spread(rates):26} {spread(self.costs[name]):26} {lean:20} {self.detections.get(name, '')}")
        for provider, taken in self.ideals.items():
            decoding, model = (statistics.median(values) for values in zip(*taken))
            print(f"ideal, {provider}: decoding {decoding:.1f} ms, model {model:.1f} ms a keyframe, {CORES} cores")
        for pair, (wall, processor) in self.ratios().items():
            print(f"{pair}: {wall:.2f} times; {processor:.2f} in processor time")
        for name, (wall, processor) in self.of_ideal_without_start().items():
            print(f"{name} without its start / ideal: {wall:.2f} times; {processor:.2f} in processor time")


class Debian13:
    """GStreamer 1.26's onnxinference, in a Debian 13 tree."""

    def __init__(self, root):
        self.root = pathlib.Path(root)

    def missing(self):
        """Returns why it cannot run here."""
        if not (self.root / "usr/bin/gst-launch-1.0").exists():
            return f"{self.root} has no GStreamer: `make test-debian13` creates it"
        if os.geteuid() != 0:
            return "entering the Debian 13 tree needs root"
        for plugin, package in (("onnx", "bad"), ("libav", "libav"), ("isomp4", "good")):
            if not list(self.root.glob(f"usr/lib/*/gstreamer-1.0/libgst{plugin}.so")):
                name = package if package == "libav" else f"plugins-{package}"
                return f"{self.root} has no gst{plugin}: chroot {self.root} apt-get install gstreamer1.0-{name}"
        if not importable(sys.executable, "onnx"):
            return "the Python package onnx is missing, which names the model's output for it"
        return None

    def run(self, paths, model):
        with tempfile.TemporaryDirectory(dir=self.root / "tmp") as folder:
            folder = pathlib.Path(folder)
            named(model, folder / "model.onnx")
            inside = pathlib.Path("/tmp") / folder.name
            branches = []
            for number, path in enumerate(paths):
                shutil.copy(path, folder / f"{number}.mp4")
                branches += ["filesrc", f"location={inside}/{number}.mp4", "!", "qtdemux", "!", "h264parse", "!", "identity",
                             "drop-buffer-flags=delta-unit", "!", "avdec_h264", "!", "videoconvertscale", "!", "video/x-raw,pixel-aspect-ratio=1/1",
                             "!", "onnxinference", "input-image-format=chw", "input-tensor-scale=255", "optimization-level=enable-all",
                             f"model-file={inside}/model.onnx", "!", "fakesink", "silent=false"]
            # A crash ends the process, in place of waiting for a debugger.
            return Run([["chroot", self.root, "gst-launch-1.0", "--no-fault", "-v", *branches]],
                       lambda text: (text.count("last-message = chain "), 0), {"PATH": os.environ["PATH"], "HOME": "/tmp"})


def named(model, path):
    """Copies a model with the metadata that onnxinference of GStreamer 1.26 requires: an identifier for each output."""
    import onnx
    graph = onnx.load(model)
    for output in graph.graph.output:
        graph.metadata_props.add(key=output.name, value="Gst.Model.ObjectDetector.Boxes")
    onnx.save(graph, path)


def note(text):
    print(f"peers.py: {text}", file=sys.stderr)


def spread(values):
    low, high = min(values), max(values)
    return f"{statistics.median(values):.1f} ({low:.1f} to {high:.1f})"


def importable(interpreter, packages):
    command = [interpreter, "-c", f"import {', '.join(packages.split())}"]
    return subprocess.run(command, capture_output=True, env=dict(os.environ, YOLO_OFFLINE="true")).returncode == 0


def choose_interpreters(arguments):
    """Finds an interpreter for each Python program, and notes the contenders that cannot run."""
    arguments.interpreters, arguments.left_out = {}, set()
    for name, packages in PACKAGES.items():
        if arguments.only not in name:
            continue
        found = next((interpreter for interpreter in [sys.executable, *arguments.python] if importable(interpreter, packages)), None)
        if found:
            arguments.interpreters[name] = found
        else:
            note(f"left out: {name}: no interpreter imports {packages}")
            arguments.left_out.add(name)
    if arguments.only in "onnxinference" and (reason := arguments.debian13.missing()):
        note(f"left out: onnxinference: {reason}")
        arguments.left_out.add("onnxinference")


def about(arguments):
    """Returns the machine and the versions of everything that takes part."""
    facts = bulk.versions()
    flags = set(next(line for line in open("/proc/cpuinfo") if line.startswith("flags")).split())
    facts["instructions"] = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8") if flag in flags]
    program = ("import sys, importlib.metadata as m\nfor name in sys.argv[1:]:\n"
               " try: print(name, m.version(name))\n except m.PackageNotFoundError: pass")
    packages = ["av", "opencv-python-headless", "opencv-python", "numpy", "onnxruntime", "openvino", "ultralytics"]
    facts["python"] = {name: subprocess.run([interpreter, "-c", program, *packages], capture_output=True, text=True).stdout.split("\n")[:-1]
                       for name, interpreter in arguments.interpreters.items()}
    facts["load"] = os.getloadavg()[0]
    return facts


def copies_of(clip, count, folder):
    """Copies a clip, because the same path twice is one file for `vx detect`."""
    paths = [pathlib.Path(folder) / f"{number}_{clip.name}" for number in range(count)]
    for path in paths:
        shutil.copy(clip, path)
    return paths


def table_cases(arguments, folder):
    """Returns the cases of the documentation."""
    person = SHARED / "media/intel/one-by-one-person-detection.mp4"
    if not person.exists() or not bulk.PHOTOGRAPHS.exists():
        sys.exit("peers.py: --table needs the media and photographs in ../shared")
    reel = bulk.reel("1080p", "h264", arguments.keyframes)
    models = SHARED / "models"
    rows = [("1080p", reel, "yolov8n_fp32_dynamic.onnx"), ("1080p", reel, "yolo26n_int8.onnx"),
            ("1080p", reel, "yolo11n_320_int8.onnx"), ("768x432", person, "yolov8n_fp32_dynamic.onnx")]
    clips = {clip: copies_of(clip, arguments.copies, folder) for clip in {reel, person}}
    return [Case(title, clips[clip], models / model, arguments) for title, clip, model in rows]


def print_tables(facts, figures):
    """Prints the section of docs/performance.md."""
    versions = ", ".join(dict.fromkeys(line for lines in facts["python"].values() for line in lines))
    command = " ".join(["benches/peers.py", *(word for word in sys.argv[1:] if not word.startswith("--python"))])
    print(f"\n`{command}`, {time.strftime('%Y-%m-%d')}. {facts['cpu']}, {facts['cores']} cores ({', '.join(facts['instructions'])}); {versions}. "
          f"Load at the start {facts['load']:.1f}.")
    heads = [f"{taken.title} h264, {taken.model.removesuffix('.onnx')}" for taken in figures]
    names = list(dict.fromkeys(name for taken in figures for name in taken.rates))
    for title, values in (("keyframes/s", "rates"), ("processor time for each keyframe, ms", "costs")):
        print(f"\n| {title} | " + " | ".join(heads) + " |\n|---" + "|---" * len(heads) + "|")
        for name in names:
            cells = [spread(getattr(taken, values)[name]) if name in taken.rates else "" for taken in figures]
            print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| times as fast: wall time, processor time | " + " | ".join(heads) + " |\n|---" + "|---" * len(heads) + "|")
    for pair in dict.fromkeys(pair for taken in figures for pair in taken.ratios()):
        cells = ["{:.2f}, {:.2f}".format(*taken.ratios()[pair]) if pair in taken.ratios() else "" for taken in figures]
        print(f"| {pair} | " + " | ".join(cells) + " |")
    for name in dict.fromkeys(name for taken in figures for name in taken.lean):
        cells = ["{:.2f}, {:.2f}".format(*taken.of_ideal_without_start()[name]) if name in taken.lean else "" for taken in figures]
        print(f"| {name} without its start / ideal | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=pathlib.Path, nargs="?")
    parser.add_argument("model", type=pathlib.Path, nargs="?")
    parser.add_argument("--table", choices=["docs"], help="run the cases of the documentation and print its tables")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--copies", type=int, default=CORES, help="copies of the clip that each contender reads (default: one for each core)")
    parser.add_argument("--keyframes", type=int, default=130, help="keyframes of the 1080p clip of --table")
    parser.add_argument("--size", help="input-size of vxyolodetect")
    parser.add_argument("--only", default="", help="contenders whose name contains this text")
    parser.add_argument("--python", action="append", default=[], help="another interpreter to run Python programs with; repeatable")
    parser.add_argument("--debian13", type=Debian13, default=Debian13("/var/tmp/vx-debian13"), help="a Debian 13 tree with GStreamer 1.26")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to this file")
    arguments = parser.parse_args()
    if not arguments.table and not (arguments.clip and arguments.model):
        parser.error("a clip and a model are needed, or --table docs")
    for needed in (bulk.VX, bulk.PLUGINS):
        if not needed.exists():
            sys.exit("peers.py: nothing is built yet: run `make build`")
    choose_interpreters(arguments)
    facts = about(arguments)
    bulk.CORPUS.mkdir(parents=True, exist_ok=True)
    print(f"{facts['cpu']}, {facts['cores']} cores ({', '.join(facts['instructions'])}), {platform.platform()}, load {facts['load']:.1f}; "
          f"{arguments.rounds} rounds\n" + "\n".join(facts["doctor"]))
    with tempfile.TemporaryDirectory(dir=bulk.CORPUS) as folder:
        if arguments.table:
            cases = table_cases(arguments, folder)
        else:
            cases = [Case(arguments.clip.name, copies_of(arguments.clip, arguments.copies, folder), arguments.model.resolve(), arguments)]
        figures = []
        for case in cases:
            figures.append(case.measure())
            figures[-1].print()
    if arguments.table:
        print_tables(facts, figures)
    if arguments.json:
        report = {"about": facts, "cases": [taken.report() for taken in figures]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

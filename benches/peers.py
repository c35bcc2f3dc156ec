#!/usr/bin/env python3
"""Compares vx with the Python programs that people write for the same task, on one file and with one model.

    make build
    pip install av opencv-python-headless numpy onnxruntime openvino ultralytics
    benches/peers.py FILE MODEL.onnx [--rounds 5] [--size 640x640]

All programs decode keyframes only and detect with the same YOLOv8-style model. Contenders:

  Python loop              PyAV, OpenCV, ONNX Runtime with all cores: the loop from tutorials, with keyframe-only decoding
  Python, two processes    two such processes with one thread each, which read the file at the same time
  Python, OpenVINO's queue PyAV and OpenVINO's asynchronous queue in its default precision
  Ultralytics              its `predict` on the frames of the first program
  vx, ...                  gst-launch-1.0 with one pipeline, or two in one process, on the CPU provider or the automatic one

Each round runs every contender once, in an order that shifts by one in each round. Rates and processor times cover whole
processes, from start to end: the median over the rounds, with the slowest and the fastest. Contenders with missing Python packages
are skipped with a note. The last rows are the ideal for vx: the time of decoding alone plus the time of the model alone,
spread over the cores.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

LOOP = """
import ast, sys, av, cv2, numpy, onnxruntime
path, model, threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
image = session.get_inputs()[0]
meta = session.get_modelmeta().custom_metadata_map
size = ast.literal_eval(meta["imgsz"])[0] if "imgsz" in meta else image.shape[2]
count = 0
with av.open(path) as container:
    stream = container.streams.video[0]
    stream.codec_context.skip_frame = "NONKEY"
    stream.thread_type = "NONE" if threads == "1" else "AUTO"
    for packet in container.demux(stream):
        if packet.size and not packet.is_keyframe:
            continue
        for frame in packet.decode():
            rgb = frame.to_ndarray(format="rgb24")
            scale = size / max(rgb.shape[:2])
            small = cv2.resize(rgb, (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)))
            canvas = numpy.full((size, size, 3), 114, numpy.uint8)
            top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
            canvas[top:top + small.shape[0], left:left + small.shape[1]] = small
            tensor = numpy.ascontiguousarray(canvas.transpose(2, 0, 1)[None].astype(numpy.float32) / 255)
            out = session.run(None, {image.name: tensor})[0][0]
            scores = out[4:].max(0)
            keep = scores > 0.25
            boxes = out[:4, keep].T
            cv2.dnn.NMSBoxes((boxes - numpy.hstack([boxes[:, 2:] / 2, 0 * boxes[:, 2:]])).tolist(), scores[keep].tolist(), 0.25, 0.7)
            count += 1
print(count)
"""


ASYNC = """
import ast, sys, av, cv2, numpy, openvino
path, model = sys.argv[1:]
core = openvino.Core()
net = core.read_model(model)
meta = net.get_rt_info(["framework", "imgsz"]).astype(str) if net.has_rt_info(["framework", "imgsz"]) else "[640, 640]"
size = ast.literal_eval(meta)[0]
net.reshape([1, 3, size, size])
queue = openvino.AsyncInferQueue(core.compile_model(net, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"}))
count = 0
def done(request, _):
    global count
    out = request.get_output_tensor(0).data[0]
    scores = out[4:].max(0)
    keep = scores > 0.25
    boxes = out[:4, keep].T
    cv2.dnn.NMSBoxes((boxes - numpy.hstack([boxes[:, 2:] / 2, 0 * boxes[:, 2:]])).tolist(), scores[keep].tolist(), 0.25, 0.7)
    count += 1
queue.set_callback(done)
with av.open(path) as container:
    stream = container.streams.video[0]
    stream.codec_context.skip_frame = "NONKEY"
    stream.thread_type = "AUTO"
    for packet in container.demux(stream):
        if packet.size and not packet.is_keyframe:
            continue
        for frame in packet.decode():
            rgb = frame.to_ndarray(format="rgb24")
            scale = size / max(rgb.shape[:2])
            small = cv2.resize(rgb, (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)))
            canvas = numpy.full((size, size, 3), 114, numpy.uint8)
            top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
            canvas[top:top + small.shape[0], left:left + small.shape[1]] = small
            queue.start_async(numpy.ascontiguousarray(canvas.transpose(2, 0, 1)[None].astype(numpy.float32) / 255))
queue.wait_all()
print(count)
"""


ULTRALYTICS = """
import sys, av
from ultralytics import YOLO
path, model = sys.argv[1:]
detector = YOLO(model, task="detect")
count = 0
with av.open(path) as container:
    stream = container.streams.video[0]
    stream.codec_context.skip_frame = "NONKEY"
    stream.thread_type = "AUTO"
    for packet in container.demux(stream):
        if packet.size and not packet.is_keyframe:
            continue
        for frame in packet.decode():
            detector.predict(frame.to_ndarray(format="bgr24"), device="cpu", conf=0.25, iou=0.7, verbose=False)
            count += 1
print(count)
"""


class Run:
    """One contender in one round: keyframes, seconds from start to end, seconds of processor time."""

    def __init__(self, commands, count, env=None):
        started = time.monotonic()
        processes = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                     for command in commands]
        self.keyframes, self.cpu = 0, 0.0
        for process in processes:
            text = process.stdout.read()
            errors = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            if status != 0:
                sys.exit(f"peers.py: {' '.join(commands[0][:3])} ... failed:\n{errors[-2000:]}")
            self.keyframes += count(text)
            self.cpu += usage.ru_utime + usage.ru_stime
        self.seconds = time.monotonic() - started


def last_number(text):
    return int(text.split()[-1])


def launch(branches):
    """Runs one gst-launch-1.0 process with these branches."""
    env = dict(os.environ, GST_PLUGIN_PATH=f"{ROOT}/target/plugins", GST_REGISTRY=f"{ROOT}/target/gst-registry.bin")
    return Run([["gst-launch-1.0", "-q", *branches]], lambda text: text.count('"pts_ns"'), env)


def branch(arguments, provider):
    size = [f"input-size={arguments.size}"] if arguments.size else []
    return ["filesrc", f"location={arguments.file}", "!", "vxkeyframedec", "!", "vxyolodetect",
            f"model-file={arguments.model}", f"execution-provider={provider}", *size, "!", "vxjsonenc", "!", "fdsink"]


def python(program, *arguments, processes=1):
    return Run([[sys.executable, "-c", program, *arguments]] * processes, last_number)


def has(package):
    return subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True).returncode == 0


def ideal(arguments, provider, keyframes):
    """Returns the seconds of processor time for decoding alone and for the model alone."""
    env = dict(os.environ, GST_PLUGIN_PATH=f"{ROOT}/target/plugins", GST_REGISTRY=f"{ROOT}/target/gst-registry.bin")

    def cpu(line):
        return Run([["gst-launch-1.0", "-q", *line]], lambda text: 0, env).cpu

    reading = cpu(["filesrc", f"location={arguments.file}", "!", "vxkeyframedec", "!", "fakesink"])
    size = [f"input-size={arguments.size}"] if arguments.size else []

    def model(frames):
        # Repeats one picture of the file, so that it costs nothing to produce.
        return cpu(["filesrc", f"location={arguments.file}", "!", "vxkeyframedec", "!", "imagefreeze", f"num-buffers={frames}", "!",
                    "vxyolodetect", f"model-file={arguments.model}", f"execution-provider={provider}", *size, "!", "fakesink"])

    return reading, model(keyframes + 1) - model(1)


def shown(values, digits=1):
    values = sorted(values)
    return f"{statistics.median(values):.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file"), parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", help="input-size of vxyolodetect")
    parser.add_argument("--only", help="contenders whose name has this text")
    arguments = parser.parse_args()
    path, model = arguments.file, arguments.model
    contenders = {
        "Python loop": lambda: python(LOOP, path, model, "0"),
        "vx, cpu": lambda: launch(branch(arguments, "cpu")),
        "Python, two processes": lambda: python(LOOP, path, model, "1", processes=2),
        "vx, cpu, two pipelines": lambda: launch(branch(arguments, "cpu") * 2),
        "Python, OpenVINO's queue": lambda: python(ASYNC, path, model),
        "vx, automatic": lambda: launch(branch(arguments, "auto")),
        "Ultralytics": lambda: python(ULTRALYTICS, path, model),
    }
    for name, package in [("Python, OpenVINO's queue", "openvino"), ("Ultralytics", "ultralytics")]:
        if not has(package):
            print(f"left out: {name}, because the Python package {package} is missing")
            del contenders[name]
    if arguments.only:
        contenders = {name: run for name, run in contenders.items() if arguments.only in name}
    runs = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(arguments.rounds):
        for name in names[number % len(names):] + names[:number % len(names)]:
            runs[name].append(contenders[name]())
    print(f"{'':26} keyframes  keyframes/s               seconds                processor ms/keyframe")
    for name, taken in runs.items():
        print(f"{name:26} {taken[0].keyframes:9}  {shown([run.keyframes / run.seconds for run in taken]):24}  "
              f"{shown([run.seconds for run in taken], 2):21}  {shown([1000 * run.cpu / run.keyframes for run in taken])}")
    cores = os.cpu_count()
    for name, provider in [("vx, cpu", "cpu"), ("vx, automatic", "auto")]:
        if name in runs:
            keyframes = runs[name][0].keyframes
            reading, inference = ideal(arguments, provider, keyframes)
            rate = keyframes * cores / (reading + inference)
            print(f"{'ideal, ' + provider:26} {keyframes:9}  {rate:.1f}  "
                  f"(decoding {1000 * reading / keyframes:.1f} ms, model {1000 * inference / keyframes:.1f} ms a keyframe, {cores} cores)")


if __name__ == "__main__":
    main()

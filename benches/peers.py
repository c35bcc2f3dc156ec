#!/usr/bin/env python3
"""Keyframes per second of the plugin and of the usual Python loop, on one file and with one model.

    make build
    pip install av==17.0.0 opencv-python-headless numpy onnxruntime==1.31.1 openvino
    benches/peers.py FILE MODEL.onnx [--rounds 7]

Both sides decode keyframes only and detect with the same YOLOv8 model at its own size; the loop (PyAV, OpenCV, ONNX Runtime
with all cores) is what tutorials show, with keyframe-only decoding switched on. Beside it stand two that a good programmer would
write: two processes with one thread each, which read the file side by side, against two such pipelines in one process of vx;
and PyAV with OpenVINO's asynchronous queue in its default precision (left out where openvino is missing). Each round runs every contender once, one
after the other, from process start to process end; printed are the median over the rounds and the fastest and slowest.
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


def plugin(provider, pipelines=1):
    def run(path, model):
        line = ["gst-launch-1.0", "-q"]
        for _ in range(pipelines):
            line += ["filesrc", f"location={path}", "!", "vxkeyframedec", "!", "vxyolodetect", f"model-file={model}",
                     f"execution-provider={provider}", "!", "vxjsonenc", "!", "fdsink"]
        env = dict(os.environ, GST_PLUGIN_PATH=f"{ROOT}/target/plugins", GST_REGISTRY=f"{ROOT}/target/gst-registry.bin")
        return subprocess.run(line, env=env, check=True, capture_output=True, text=True).stdout.count("\n")
    return run


def loop(path, model):
    run = [sys.executable, "-c", LOOP, path, model, "0"]
    return int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def two_processes(path, model):
    run = [sys.executable, "-c", LOOP, path, model, "1"]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return sum(int(one.communicate()[0]) for one in both)


def asynchronous(path, model):
    run = [sys.executable, "-c", ASYNC, path, model]
    return int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file"), parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    contenders = {
        "Python loop": loop,
        "vx, CPU provider": plugin("cpu"),
        "Python, two processes": two_processes,
        "vx, CPU provider, two pipelines": plugin("cpu", 2),
        "Python, OpenVINO's queue": asynchronous,
        "vx, automatic": plugin("auto"),
    }
    if subprocess.run([sys.executable, "-c", "import openvino"], capture_output=True).returncode:
        print("skipped: OpenVINO's queue, because the package openvino is missing")
        del contenders["Python, OpenVINO's queue"]
    seconds = {name: [] for name in contenders}
    counts = {}
    for _ in range(arguments.rounds):
        for name, run in contenders.items():
            start = time.monotonic()
            counts[name] = run(arguments.file, arguments.model)
            seconds[name].append(time.monotonic() - start)
    for name, times in seconds.items():
        rates = sorted(counts[name] / elapsed for elapsed in times)
        print(f"{name:32} {counts[name]:5} keyframes  {statistics.median(rates):7.1f}/s  "
              f"({rates[0]:.1f} to {rates[-1]:.1f})  {statistics.median(times):6.2f} s from start to end")


if __name__ == "__main__":
    main()

"""One reading thread for each file, up to the number of cores, which feed OpenVINO's asynchronous queue.

    openvino_queue.py MODEL.onnx FILE...

PyAV and OpenCV release Python's lock, and OpenVINO's threads do not need it. The precision is OpenVINO's default. Prints the numbers of
keyframes and of detections.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import openvino

from common import detections, keyframes, prepare, size_of

model, *paths = sys.argv[1:]
cores = len(os.sched_getaffinity(0))
cv2.setNumThreads(1)
core = openvino.Core()
network = core.read_model(model)
has_size = network.has_rt_info(["framework", "imgsz"])
metadata = {"imgsz": network.get_rt_info(["framework", "imgsz"]).astype(str)} if has_size else {}
shape = [dimension.get_length() if dimension.is_static else None for dimension in network.input(0).partial_shape]
size = size_of(metadata, shape)
network.reshape([1, 3, size, size])
queue = openvino.AsyncInferQueue(core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"}))
lock = threading.Lock()
counts = []
queue.set_callback(lambda request, _: counts.append(detections(request.get_output_tensor(0).data[0])))


def read(path):
    for frame in keyframes(path, max(1, cores // len(paths))):
        picture = prepare(frame, size)
        with lock:
            queue.start_async(picture)


with ThreadPoolExecutor(cores) as pool:
    list(pool.map(read, paths))
queue.wait_all()
print(len(counts), sum(counts))

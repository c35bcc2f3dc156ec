"""The loop from tutorials, with keyframe-only decoding: PyAV, OpenCV, ONNX Runtime, one frame after the other.

    python_loop.py THREADS MODEL.onnx FILE...

Prints the numbers of keyframes and of detections.
"""

import sys

import onnxruntime

from common import detections, keyframes, prepare, size_of

threads, model, *paths = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
image = session.get_inputs()[0]
size = size_of(session.get_modelmeta().custom_metadata_map, image.shape)
frames = found = 0
for path in paths:
    for frame in keyframes(path, int(threads)):
        found += detections(session.run(None, {image.name: prepare(frame, size)})[0][0])
        frames += 1
print(frames, found)

"""Ultralytics' own `predict` on keyframes that PyAV decodes, because its reader of files decodes every frame.

    ultralytics_predict.py MODEL.onnx FILE...

Prints the numbers of keyframes and of detections.
"""

import sys

import onnxruntime
from ultralytics import YOLO

from common import keyframes, size_of

model, *paths = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
shape = session.get_inputs()[0].shape
size = size_of(session.get_modelmeta().custom_metadata_map, shape)
# Of a model whose height and width are fixed although its metadata says "dynamic", it would otherwise want another input size.
is_free = not isinstance(shape[2], int)
del session
detector = YOLO(model, task="detect")
frames = found = 0
for path in paths:
    for frame in keyframes(path, 0):
        picture = frame.to_ndarray(format="bgr24")
        (result,) = detector.predict(picture, imgsz=size, rect=is_free, device="cpu", conf=0.25, iou=0.7, verbose=False)
        found += len(result.boxes)
        frames += 1
print(frames, found)

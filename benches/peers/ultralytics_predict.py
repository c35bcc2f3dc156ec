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
size = size_of(session.get_modelmeta().custom_metadata_map, session.get_inputs()[0].shape)
del session
detector = YOLO(model, task="detect")
frames = found = 0
for path in paths:
    for frame in keyframes(path, 0):
        (result,) = detector.predict(frame.to_ndarray(format="bgr24"), imgsz=size, device="cpu", conf=0.25, iou=0.7, verbose=False)
        found += len(result.boxes)
        frames += 1
print(frames, found)

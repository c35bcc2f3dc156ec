#!/usr/bin/env python3
"""Writes golden results at tight input sizes, with an independent detector and an independent rewriting of the model.

    pip install av numpy opencv-python-headless onnx onnxruntime
    tests/golden/tight.py ../shared/reference/reference.py ../shared/models/yolov8n_fp32_dynamic.onnx ../shared FILES... > tests/golden/tight.jsonl

Only for the Ultralytics layout v8: the numbers of cells, the cell centres and the strides are replaced, found by their shapes.
"""
import importlib.util
import json
import math
import pathlib
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

STRIDES = (8, 16, 32)


def load(path):
    specification = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def input_size(width, height, side=640):
    """The smallest of the sizes for the aspect ratios below that contains the frame scaled to `side`."""
    scale = min(side / width, side / height)
    ratios = ((3, 7), (1, 2), (9, 16), (5, 8), (2, 3), (3, 4), (4, 5), (1, 1))
    ladder = [math.ceil(side * short / long / 32) * 32 for short, long in ratios]
    return tuple(min(step for step in ladder if step >= round(length * scale)) for length in (width, height))


def rewritten(path, width, height):
    """Returns the model of 640x640 for another size."""
    model = onnx.load(path)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    shape[2].dim_value, shape[3].dim_value = height, width
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[2].ClearField("dim_value")
    old = sum((640 // stride) ** 2 for stride in STRIDES)
    cells = [(stride, height // stride, width // stride) for stride in STRIDES]
    new = sum(rows * columns for _, rows, columns in cells)
    centres = [np.stack(np.meshgrid(np.arange(c) + 0.5, np.arange(r) + 0.5), 0).reshape(2, -1) for _, r, c in cells]
    strides = [np.full(r * c, stride) for stride, r, c in cells]
    tensors = list(model.graph.initializer)
    tensors += [attribute.t for node in model.graph.node if node.op_type == "Constant" for attribute in node.attribute]
    for tensor in tensors:
        if old in tensor.dims:
            values = np.concatenate(centres if 2 in tensor.dims else strides, -1)
            made = values.reshape([new if length == old else length for length in tensor.dims])
        elif list(tensor.dims) and tensor.data_type == onnx.TensorProto.INT64 and old in numpy_helper.to_array(tensor):
            made = np.where(numpy_helper.to_array(tensor) == old, new, numpy_helper.to_array(tensor))
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(made.astype(numpy_helper.to_array(tensor).dtype), tensor.name))
    return model


def main():
    reference, model, root, *files = sys.argv[1:]
    reference, root = load(reference), pathlib.Path(root)
    detectors = {}

    def detector(size, folder):
        if size not in detectors:
            path = pathlib.Path(folder) / f"{size[0]}x{size[1]}.onnx"
            onnx.save(rewritten(model, *size), path)

            class Tight(reference.Detector):
                def raw_pixels(self, rgb):
                    import cv2
                    width, height = size
                    scale = min(width / rgb.shape[1], height / rgb.shape[0])
                    across, down = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
                    canvas = np.full((height, width, 3), 114, np.uint8)
                    top, left = (height - down) // 2, (width - across) // 2
                    canvas[top:top + down, left:left + across] = cv2.resize(rgb, (across, down), interpolation=cv2.INTER_LINEAR)
                    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None].astype(np.float32) / 255), scale, left, top

                def is_yolox(self):
                    return False

            detectors[size] = Tight(str(path))
        return detectors[size]

    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            frames = []
            for pts, rgb in reference.keyframes(str(root / file)):
                height, width = rgb.shape[:2]
                found = detector(input_size(width, height), folder)(rgb)
                frames.append([pts, width, height, [[one["label"], one["confidence"], *one["box"]] for one in found]])
            sizes = sorted({"%dx%d" % input_size(width, height) for _, width, height, _ in frames})
            print(json.dumps({"file": file, "sizes": sizes, "frames": frames}, separators=(",", ":")), flush=True)


main()

#!/usr/bin/env python3
"""Creates the models in this folder: the output formats of detector families, without their weights.

    pip install onnx==1.19.1 numpy && tests/models/make_models.py

Each model takes a 64x64 picture and always detects one box with corners (16, 8) and (48, 40), class 2, score 0.75. Families
add a weaker overlapping box if their output needs suppression, and empty rows if they pad rows. The picture contributes a
zero to every output, so that no part of the graph is pruned.
"""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
LOGIT = float(np.log(0.75 / 0.25))


def value(name, kind, shape):
    return h.make_tensor_value_info(name, kind, shape)


def model(name, outputs, extra_inputs=(), picture=(T.FLOAT, [1, 3, 64, 64]), image="images", metadata=()):
    """Writes a model. `outputs`: name to (array, declared shape, name of an input that multiplies it or None)."""
    nodes, constants, infos = [], [], []
    kinds = {np.dtype("float32"): T.FLOAT, np.dtype("int64"): T.INT64, np.dtype("int32"): T.INT32}
    # A zero that depends on the picture.
    nodes.append(h.make_node("Cast", [image], ["as_float"], to=T.FLOAT))
    nodes.append(h.make_node("ReduceMean", ["as_float"], ["mean"], keepdims=0))
    constants.append(numpy_helper.from_array(np.array(0, np.float32), "nothing"))
    nodes.append(h.make_node("Mul", ["mean", "nothing"], ["zero"]))
    for key, (array, shape, factor) in outputs.items():
        kind = kinds[array.dtype]
        # Large and sparse: only nonzero values are stored.
        places = np.argwhere(array != 0).astype(np.int64)
        constants.append(numpy_helper.from_array(np.array(array.shape, np.int64), f"{key}_shape"))
        constants.append(numpy_helper.from_array(places, f"{key}_places"))
        constants.append(numpy_helper.from_array(array[tuple(places.T)], f"{key}_values"))
        empty = numpy_helper.from_array(np.zeros(1, array.dtype))
        nodes.append(h.make_node("ConstantOfShape", [f"{key}_shape"], [f"{key}_empty"], value=empty))
        nodes.append(h.make_node("ScatterND", [f"{key}_empty", f"{key}_places", f"{key}_values"], [f"{key}_full"]))
        last = f"{key}_full"
        if factor:
            nodes.append(h.make_node("Cast", [factor], [f"{key}_size"], to=T.FLOAT))
            nodes.append(h.make_node("Concat", [f"{key}_size", f"{key}_size"], [f"{key}_sizes"], axis=1))
            nodes.append(h.make_node("Mul", [last, f"{key}_sizes"], [f"{key}_scaled"]))
            last = f"{key}_scaled"
        nodes.append(h.make_node("Cast", ["zero"], [f"{key}_zero"], to=kind))
        nodes.append(h.make_node("Add", [last, f"{key}_zero"], [key]))
        infos.append(value(key, kind, shape))
    inputs = [value(image, *picture), *extra_inputs]
    graph = h.make_graph(nodes, name, inputs, infos, constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 16)], ir_version=8, producer_name="vx tests")
    for key, text in metadata:
        entry = made.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(made)
    onnx.save(made, HERE / f"{name}.onnx")


def zeros(*shape, kind=np.float32):
    return np.zeros(shape, kind)


CORNERS = np.array([16, 8, 48, 40], np.float32)
CENTRED = np.array([32, 24, 32, 32], np.float32)

# RT-DETR, D-FINE, DEIM: final boxes, scaled by the size input.
labels, boxes, scores = zeros(1, 300, kind=np.int64), zeros(1, 300, 4), zeros(1, 300)
labels[0, 1], boxes[0, 1], scores[0, 1] = 2, CORNERS / 64, 0.75
sizes = [value("orig_target_sizes", T.INT64, [1, 2])]
detr = {"labels": (labels, [1, 300], None), "boxes": (boxes, [1, 300, 4], "orig_target_sizes"), "scores": (scores, [1, 300], None)}
model("detr_sized", detr, sizes)
# The same without a size input: normalised coordinates.
model("detr_shares", {key: (array, shape, None) for key, (array, shape, _) in detr.items()})

# DETR family without its postprocessing: logits and normalised centred boxes. RF-DETR uses other names for them.
logits, boxes = np.full((1, 10, 80), -8, np.float32), zeros(1, 10, 4)
logits[0, 5, 2], boxes[0, 5] = LOGIT, CENTRED / 64
model("detr_logits", {"logits": (logits, [1, 10, 80], None), "pred_boxes": (boxes, [1, 10, 4], None)})
model("rfdetr", {"dets": (boxes, [1, 10, 4], None), "labels": (logits, [1, 10, 80], None)})
# DETR: softmax over 91 classes and "no object".
logits = zeros(1, 100, 92)
logits[0, :, 91] = 20
logits[0, 5, 91], logits[0, 5, 2] = 0, float(np.log(0.75 / 0.25 * 91))
boxes = zeros(1, 100, 4)
boxes[0, 5] = CENTRED / 64
model("detr_softmax", {"logits": (logits, [1, 100, 92], None), "pred_boxes": (boxes, [1, 100, 4], None)})

# YOLO-NAS: corners and class scores of each cell, before suppression.
boxes, scores = zeros(1, 84, 4), zeros(1, 84, 80)
boxes[0, 3], scores[0, 3, 2] = CORNERS, 0.75
boxes[0, 4], scores[0, 4, 2] = CORNERS + 1, 0.5
model("yolo_nas", {"graph2_box": (boxes, [1, 84, 4], None), "graph2_scores": (scores, [1, 84, 80], None)})
rows = np.array([[0, *CORNERS, 0.75, 2]], np.float32)
model("yolo_nas_flat", {"graph2_flat_predictions": (rows, ["boxes", 7], None)})

# YOLOv7 with NMS: image, corners, class, score.
rows = np.array([[0, *CORNERS, 2, 0.75]], np.float32)
model("yolov7_nms", {"output": (rows, ["boxes", 7], None)})

# EfficientNMS of TensorRT and its copies: padded rows and a count. Rows after the count must be ignored.
boxes, scores, classes = zeros(1, 100, 4), zeros(1, 100), zeros(1, 100, kind=np.int32)
boxes[0, :2], scores[0, :2], classes[0, :2] = CORNERS, 0.75, 2
count = np.array([[1]], np.int32)
model("efficient_nms", {
    "num_dets": (count, [1, 1], None), "det_boxes": (boxes, [1, 100, 4], None),
    "det_scores": (scores, [1, 100], None), "det_classes": (classes, [1, 100], None)})

# torchvision: without a batch dimension.
model("torchvision", {
    "boxes": (CORNERS[None], ["boxes", 4], None), "labels": (np.array([2], np.int64), ["boxes"], None),
    "scores": (np.array([0.75], np.float32), ["boxes"], None)})

# PaddleDetection with NMS: class, score, corners, and the number of boxes.
paddle = [value("scale_factor", T.FLOAT, [1, 2]), value("im_shape", T.FLOAT, [1, 2])]
rows = np.array([[2, 0.75, *CORNERS]], np.float32)
model("paddle", {"multiclass_nms3_0.tmp_0": (rows, ["boxes", 6], None), "multiclass_nms3_0.tmp_2": (np.array([1], np.int32), [1], None)},
      paddle, image="image")

# NanoDet-Plus: cells located at the corner of their square, all strides in one output. Cell (2, 2) of stride 16 is at (32, 32).
rows = zeros(1, 64 + 16 + 4 + 1, 80 + 32)
cell = rows[0, 64 + 2 * 4 + 2]
cell[2] = 0.75
# One bin has all the weight: distances of 1, 1.5, 1, 0.5 strides to the left, top, right and bottom.
for side, distance in enumerate([1, 1.5, 1, 0.5]):
    low, high = int(np.floor(distance)), int(np.ceil(distance))
    cell[80 + 8 * side + low] = cell[80 + 8 * side + high] = 60
model("nanodet_plus", {"output": (rows, [1, 85, 112], None)})

# PicoDet without NMS: scores of each stride, then boxes of each stride, cells located at their centre: (1, 1) of 16 is at (24, 24).
outputs = {}
for level, cells in enumerate([64, 16, 4, 1]):
    scores = zeros(1, cells, 80)
    if level == 1:
        scores[0, 5, 2] = 0.75
    outputs[f"scores_{level}"] = (scores, [1, cells, 80], None)
for level, cells in enumerate([64, 16, 4, 1]):
    boxes = zeros(1, cells, 32)
    if level == 1:
        for side, (low, high) in enumerate([(0, 1), (1, 1), (1, 2), (1, 1)]):
            boxes[0, 5, 8 * side + low] = boxes[0, 5, 8 * side + high] = 60
    outputs[f"boxes_{level}"] = (boxes, [1, cells, 32], None)
model("picodet", outputs, image="image")

# Byte input with the channels last, and YOLOv8's output.
rows = zeros(1, 14, 84)
rows[0, :4, 7], rows[0, 4 + 2, 7] = CENTRED, 0.75
names = [("names", str({index: f"c{index}" for index in range(10)}))]
model("v8_bytes_last", {"output0": (rows, [1, 14, 84], None)}, picture=(T.UINT8, [1, 64, 64, 3]), metadata=names)


def odd(name, output, batch="batch"):
    """Writes a model whose YOLOv8 output [batch, 14, 84] is computed from the pictures by `nodes`."""
    nodes, constants = output
    names = [("names", str({index: f"c{index}" for index in range(10)}))]
    rows = zeros(1, 14, 84)
    rows[0, :4, 7], rows[0, 4 + 2, 7] = CENTRED, 0.75
    constants = [numpy_helper.from_array(rows, "rows"), *constants]
    graph = h.make_graph(nodes, name, [value("images", T.FLOAT, [batch, 3, 64, 64])],
                         [value("output0", T.FLOAT, [batch, 14, "cells"])], constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 16)], ir_version=8, producer_name="vx tests")
    for key, text in names:
        entry = made.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(made)
    onnx.save(made, HERE / f"{name}.onnx")


def constant(name, array):
    return numpy_helper.from_array(np.array(array), name)


# The mean of each picture, as [batch, 1, 1].
MEAN = [h.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2], keepdims=1),
        h.make_node("ReduceMean", ["mean"], ["level4"], axes=[3], keepdims=1),
        h.make_node("Squeeze", ["level4", "one"], ["level"])]
ONE = constant("one", np.array([1], np.int64))
# Correct for one picture, wrong for several: confidences are divided by the batch size.
odd("wrong_batch", ([*MEAN, h.make_node("Shape", ["images"], ["shape"]), h.make_node("Gather", ["shape", "first"], ["count"]),
                     h.make_node("Cast", ["count"], ["share"], to=T.FLOAT), h.make_node("Mul", ["level", "nothing"], ["none"]),
                     h.make_node("Add", ["rows", "none"], ["each"]), h.make_node("Div", ["each", "share"], ["output0"])],
                    [ONE, constant("first", np.int64(0)), constant("nothing", np.float32(0))]))
# The same for a model with boxes in pixels, which is correct.
odd("wrong_scores", ([*MEAN, h.make_node("Shape", ["images"], ["shape"]), h.make_node("Gather", ["shape", "first"], ["count"]),
                      h.make_node("Cast", ["count"], ["share"], to=T.FLOAT), h.make_node("Mul", ["level", "nothing"], ["none"]),
                      h.make_node("Add", ["rows", "none"], ["each"]), h.make_node("Pow", ["share", "is_score"], ["divisor"]),
                      h.make_node("Div", ["each", "divisor"], ["output0"])],
                     [ONE, constant("first", np.int64(0)), constant("nothing", np.float32(0)),
                      constant("is_score", np.concatenate([np.zeros((1, 4, 1), np.float32), np.ones((1, 10, 1), np.float32)], 1))]))
# NaN wherever the picture is bright; black is not bright.
odd("not_a_number", ([*MEAN, h.make_node("Sub", ["half", "level"], ["under"]), h.make_node("Sqrt", ["under"], ["odd"]),
                      h.make_node("Mul", ["odd", "nothing"], ["none"]), h.make_node("Add", ["rows", "none"], ["output0"])],
                     [ONE, constant("half", np.float32(0.1)), constant("nothing", np.float32(0))]))
# All outputs 0, and all outputs 1.
for name, factor, plus in [("all_zero", 0, 0), ("all_one", 0, 1)]:
    odd(name, ([*MEAN, h.make_node("Mul", ["level", "nothing"], ["none"]), h.make_node("Mul", ["rows", "factor"], ["made"]),
                h.make_node("Add", ["made", "plus"], ["moved"]), h.make_node("Add", ["moved", "none"], ["output0"])],
               [ONE, constant("nothing", np.float32(0)), constant("factor", np.float32(factor)), constant("plus", np.float32(plus))]))
# Boxes thousands of pixels away, like from a model whose input has another range of values than in training.
odd("far_away", ([*MEAN, h.make_node("Mul", ["level", "nothing"], ["none"]), h.make_node("Mul", ["rows", "factor"], ["made"]),
                  h.make_node("Add", ["made", "none"], ["output0"])],
                 [ONE, constant("nothing", np.float32(0)),
                  constant("factor", np.concatenate([np.full((1, 4, 1), 1000, np.float32), np.ones((1, 10, 1), np.float32)], 1))]))
# The number of cells depends on the brightness: none for black, and different from the declared shape for other pictures.
odd("changing", ([*MEAN, h.make_node("Mul", ["level", "nothing"], ["none"]), h.make_node("Add", ["rows", "none"], ["made"]),
                  h.make_node("ReduceMean", ["level"], ["all"], keepdims=0), h.make_node("Mul", ["all", "many"], ["many_level"]),
                  h.make_node("Cast", ["many_level"], ["cut"], to=T.INT64), h.make_node("Unsqueeze", ["cut", "zeroth"], ["start"]),
                  h.make_node("Slice", ["made", "start", "end", "axis"], ["output0"])],
                 [ONE, constant("nothing", np.float32(0)), constant("many", np.float32(1000)), constant("zeroth", np.array([0], np.int64)),
                  constant("end", np.array([84], np.int64)), constant("axis", np.array([1], np.int64))]))

# Values of other tasks after the class scores, in Ultralytics' export format: the same box, class 2 of 10.
TEN = ("names", str({index: f"c{index}" for index in range(10)}))


def tasked(name, task, behind, extra=(), more=None):
    rows = zeros(1, 14 + len(behind), 84)
    rows[0, :4, 7], rows[0, 4 + 2, 7], rows[0, 14:, 7] = CENTRED, 0.75, behind
    model(name, {"output0": (rows, list(rows.shape), None), **(more or {})}, metadata=[TEN, ("task", task), *extra])


# Two keypoints, at corners of the box.
tasked("pose", "pose", [16, 8, 0.5, 48, 40, 1.0], [("kpt_shape", "[2, 3]")])
# Rotated by 90 degrees, which gives the same box for a square.
tasked("obb", "obb", [np.pi / 2])
# Two prototypes at a quarter of the size; the object covers the left half of the picture.
prototypes = zeros(1, 2, 16, 16)
prototypes[0, 0, :, :8], prototypes[0, 1] = 1, 1
tasked("segment", "segment", [20, -10], more={"output1": (prototypes, [1, 2, 16, 16], None)})
scores = np.full((1, 10), 0.25 / 9, np.float32)
scores[0, 2] = 0.75
model("classify", {"output0": (scores, [1, 10], None)}, metadata=[TEN, ("task", "classify")])

# Models that cannot run as stored here: a future opset, and weights in a file that can be missing.
made = onnx.load(HERE / "yolo_nas.onnx")
made.opset_import[0].version = 99
onnx.save(made, HERE / "opset_99.onnx")
made = onnx.load(HERE / "yolo_nas.onnx")
for constant in (found for found in made.graph.initializer if found.name.endswith("_values")):
    onnx.external_data_helper.set_external_data(constant, "external.weights")
onnx.save(made, HERE / "external.onnx")


def quantised():
    """Writes convolutions with 8-bit weights like `quantize_dynamic`: one output of their sums, without detections."""
    random = np.random.default_rng(5)
    nodes, constants = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(array, name))

    def convolve(name, picture, weights, zero, **attributes):
        inputs = [f"{picture}_u8", weights, f"{picture}_zero"] + ([zero] if zero else [])
        nodes.append(h.make_node("ConvInteger", inputs, [f"{name}_sum"], **attributes))
        nodes.append(h.make_node("Cast", [f"{name}_sum"], [f"{name}_float"], to=T.FLOAT))
        nodes.append(h.make_node("Mul", [f"{name}_float", f"{picture}_scale"], [f"{name}_unscaled"]))
        nodes.append(h.make_node("Mul", [f"{name}_unscaled", "weight_scale"], [name]))

    def quantise(picture):
        nodes.append(h.make_node("DynamicQuantizeLinear", [picture], [f"{picture}_u8", f"{picture}_scale", f"{picture}_zero"]))

    weights = lambda kind, *shape: random.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, shape).astype(kind)
    constant("weight_scale", np.array(0.01, np.float32))
    constant("signed", weights(np.int8, 40, 3, 3, 3))
    constant("signed_zero", np.array(-7, np.int8))
    constant("symmetric", weights(np.int8, 40, 3, 3, 3))
    constant("unsigned", weights(np.uint8, 32, 40, 3, 3))
    constant("unsigned_zero", np.array(120, np.uint8))
    constant("shared", weights(np.int8, 84, 32, 1, 1))
    constant("shared_zero", np.array(3, np.int8))
    quantise("images")
    convolve("first", "images", "signed", "signed_zero", pads=[1, 1, 1, 1], strides=[2, 2])
    convolve("second", "images", "symmetric", None, pads=[1, 1, 1, 1], strides=[2, 2])
    nodes.append(h.make_node("Sub", ["first", "second"], ["both"]))
    quantise("both")
    convolve("third", "both", "unsigned", "unsigned_zero", pads=[1, 1, 1, 1], strides=[4, 4])
    quantise("third")
    convolve("fourth", "third", "shared", "shared_zero")
    # Another node also reads the weights of the fourth convolution.
    nodes.append(h.make_node("Cast", ["shared"], ["shared_float"], to=T.FLOAT))
    nodes.append(h.make_node("ReduceMean", ["shared_float"], ["shared_mean"], keepdims=0))
    nodes.append(h.make_node("Mul", ["fourth", "shared_mean"], ["fifth"]))
    constant("rows", np.array([1, 84, 64], np.int64))
    nodes.append(h.make_node("Reshape", ["fifth", "rows"], ["output0"]))
    inputs, outputs = [value("images", T.FLOAT, [1, 3, 64, 64])], [value("output0", T.FLOAT, [1, 84, 64])]
    graph = h.make_graph(nodes, "quantised", inputs, outputs, constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 12)], ir_version=8, producer_name="vx tests")
    onnx.checker.check_model(made)
    onnx.save(made, HERE / "quantised.onnx")


def free_size():
    """Writes a model with dynamic picture size, like Ultralytics; each cell gives the box (128, 80) to (192, 112), class 2."""
    nodes, constants, cells = [], [], []
    found = np.zeros(84, np.float32)
    found[:4], found[4 + 2] = [160, 96, 64, 32], 0.75
    constants.append(numpy_helper.from_array(np.zeros((84, 3, 1, 1), np.float32), "weights"))
    constants.append(numpy_helper.from_array(found, "found"))
    constants.append(numpy_helper.from_array(np.array([0, 84, -1], np.int64), "rows"))
    for stride in [8, 16, 32]:
        nodes.append(h.make_node("AveragePool", ["images"], [f"pooled_{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2))
        nodes.append(h.make_node("Conv", [f"pooled_{stride}", "weights", "found"], [f"map_{stride}"]))
        nodes.append(h.make_node("Reshape", [f"map_{stride}", "rows"], [f"cells_{stride}"]))
        cells.append(f"cells_{stride}")
    nodes.append(h.make_node("Concat", cells, ["output0"], axis=2))
    inputs = [value("images", T.FLOAT, ["batch", 3, "height", "width"])]
    graph = h.make_graph(nodes, "free_size", inputs, [value("output0", T.FLOAT, ["batch", 84, "anchors"])], constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 16)], ir_version=8, producer_name="vx tests")
    onnx.checker.check_model(made)
    onnx.save(made, HERE / "free_size.onnx")


def weights_as_inputs():
    """Writes `picodet.onnx` like Paddle2ONNX and older PyTorch: the weights are also among the inputs."""
    made = onnx.load(HERE / "picodet.onnx")
    made.ir_version = 4
    for weight in made.graph.initializer:
        made.graph.input.append(value(weight.name, weight.data_type, list(weight.dims)))
    onnx.checker.check_model(made)
    onnx.save(made, HERE / "weights_as_inputs.onnx")


def outside():
    """Writes `free_size.onnx` with all weights in a separate file, which providers read themselves."""
    made = onnx.load(HERE / "free_size.onnx")
    (HERE / "outside.weights").unlink(missing_ok=True)
    where = {"save_as_external_data": True, "all_tensors_to_one_file": True, "size_threshold": 64}
    onnx.save(made, HERE / "outside.onnx", location="outside.weights", **where)


def endless(name, declared, metadata=()):
    """Writes an endless model, a loop of 2^60 rounds. `declared` and the metadata decide whether reading its layout requires a run."""
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["goes"]), h.make_node("Add", ["sum", "sum"], ["more"])],
        "body",
        [value("round", T.INT64, []), value("go", T.BOOL, []), value("sum", T.FLOAT, [])],
        [value("goes", T.BOOL, []), value("more", T.FLOAT, [])],
    )
    constants = [
        numpy_helper.from_array(np.array(1 << 60, np.int64), "rounds"),
        numpy_helper.from_array(np.array(True), "always"),
        numpy_helper.from_array(np.zeros((84, 3, 1, 1), np.float32), "weights"),
        numpy_helper.from_array(np.array([0, 84, -1], np.int64), "rows"),
    ]
    nodes = [
        h.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        h.make_node("Loop", ["rounds", "always", "mean"], ["sum"], body=body),
        h.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[8] * 2, strides=[8] * 2),
        h.make_node("Conv", ["pooled", "weights"], ["map"]),
        h.make_node("Reshape", ["map", "rows"], ["cells"]),
        h.make_node("Add", ["cells", "sum"], ["output0"]),
    ]
    outputs = [value("output0", T.FLOAT, declared)]
    graph = h.make_graph(nodes, name, [value("images", T.FLOAT, [1, 3, 64, 64])], outputs, constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 16)], ir_version=8, producer_name="vx tests")
    for key, text in metadata:
        entry = made.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(made)
    onnx.save(made, HERE / f"{name}.onnx")


quantised()
free_size()
weights_as_inputs()
outside()
endless("endless", [1, 84, 64], [("names", str({index: f"c{index}" for index in range(80)})), ("task", "detect"), ("author", "Ultralytics")])
endless("endless_unknown", ["batch", "rows", "cells"])


def slow(rounds):
    """Writes a model that finds one box in every frame, after a loop that takes a good part of a second."""
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["goes"]), h.make_node("Abs", ["sum"], ["more"])],
        "body",
        [value("round", T.INT64, []), value("go", T.BOOL, []), value("sum", T.FLOAT, [])],
        [value("goes", T.BOOL, []), value("more", T.FLOAT, [])],
    )
    cells = np.zeros((1, 84, 64), np.float32)
    cells[0, :4, 0], cells[0, 4 + 2, 0] = [32, 32, 20, 20], 0.9
    constants = [
        numpy_helper.from_array(np.array(rounds, np.int64), "rounds"),
        numpy_helper.from_array(np.array(True), "always"),
        numpy_helper.from_array(np.array(0, np.float32), "nothing"),
        numpy_helper.from_array(cells, "cells"),
    ]
    nodes = [
        h.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        h.make_node("Loop", ["rounds", "always", "mean"], ["sum"], body=body),
        h.make_node("Mul", ["sum", "nothing"], ["zero"]),
        h.make_node("Add", ["cells", "zero"], ["output0"]),
    ]
    inputs, outputs = [value("images", T.FLOAT, [1, 3, 64, 64])], [value("output0", T.FLOAT, [1, 84, 64])]
    graph = h.make_graph(nodes, "slow", inputs, outputs, constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 16)], ir_version=8, producer_name="vx tests")
    for key, text in [("names", str({index: f"c{index}" for index in range(80)})), ("task", "detect"), ("author", "Ultralytics")]:
        entry = made.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(made)
    onnx.save(made, HERE / "slow.onnx")


slow(100_000)


def filled(name, outputs, inputs=None, metadata=()):
    """Writes a model. `outputs`: name to (shape, fill value or repeated array, {place: value}, kind[, declared])."""
    inputs = inputs or [("images", T.FLOAT, [1, 3, 64, 64])]
    nodes = [h.make_node("Cast", [inputs[0][0]], ["as_float"], to=T.FLOAT), h.make_node("ReduceMean", ["as_float"], ["mean"], keepdims=0),
             h.make_node("Mul", ["mean", "nothing"], ["zero"])]
    constants, infos = [numpy_helper.from_array(np.array(0, np.float32), "nothing")], []
    kinds = {np.float32: T.FLOAT, np.float64: T.DOUBLE, np.int64: T.INT64, np.int32: T.INT32, np.uint8: T.UINT8}
    for key, (shape, fill, places, kind, *declared) in outputs.items():
        constants.append(numpy_helper.from_array(np.array(shape, np.int64), f"{key}_shape"))
        constants.append(numpy_helper.from_array(np.array(fill, kind), f"{key}_fill"))
        nodes.append(h.make_node("Expand", [f"{key}_fill", f"{key}_shape"], [f"{key}_full"]))
        last = f"{key}_full"
        if places:
            constants.append(numpy_helper.from_array(np.array(list(places), np.int64), f"{key}_places"))
            constants.append(numpy_helper.from_array(np.array(list(places.values()), kind), f"{key}_values"))
            nodes.append(h.make_node("ScatterND", [last, f"{key}_places", f"{key}_values"], [f"{key}_made"]))
            last = f"{key}_made"
        nodes.append(h.make_node("Cast", ["zero"], [f"{key}_zero"], to=kinds[kind]))
        nodes.append(h.make_node("Add", [last, f"{key}_zero"], [key]))
        infos.append(value(key, kinds[kind], declared[0] if declared else list(shape)))
    graph = h.make_graph(nodes, name, [value(*given) for given in inputs], infos, constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 16)], ir_version=8, producer_name="vx tests")
    for key, text in metadata:
        entry = made.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(made)
    onnx.save(made, HERE / f"{name}.onnx")


def row(*before, columns):
    """Returns {place: value} for `columns`, a list of values of the row at `before`."""
    return {(*before, column): number for column, number in enumerate(columns)}


F, LONG = np.float32, np.int64
logit = lambda share: float(np.log(share / (1 - share)))
SHARE_CORNERS, SHARE_CENTRED = CORNERS / 64, CENTRED / 64
ULTRALYTICS = [("author", "Ultralytics")]
NMS = [*ULTRALYTICS, TEN, ("end2end", "False"), ("args", "{'batch': 1, 'half': False, 'nms': True}")]
IMAGE = ("images", T.FLOAT, [1, 3, 64, 64])

# Ultralytics with nms=True: the same box with the values of its task.
filled("nms_detect", {"output0": ([1, 300, 6], 0, row(0, 0, columns=[*CORNERS, 0.75, 2]), F)}, metadata=[*NMS, ("task", "detect")])
filled("nms_pose", {"output0": ([1, 300, 12], 0, row(0, 0, columns=[*CORNERS, 0.75, 2, 16, 8, 0.5, 48, 40, 1]), F)},
       metadata=[*NMS, ("task", "pose"), ("kpt_shape", "[2, 3]")])
filled("nms_segment", {"output0": ([1, 300, 8], 0, row(0, 0, columns=[*CORNERS, 0.75, 2, 20, -10]), F),
                       "output1": ([1, 2, 16, 16], np.array([[[1] * 8 + [0] * 8], [[1] * 16]], F), {}, F)},
       metadata=[*NMS, ("task", "segment")])
filled("nms_obb", {"output0": ([1, 300, 7], 0, row(0, 0, columns=[*CENTRED, 0.75, 2, np.pi / 2]), F)}, metadata=[*NMS, ("task", "obb")])
filled("end_to_end_unnamed", {"output0": ([1, 300, 6], 0, row(0, 0, columns=[*CORNERS, 0.75, 2]), F)})

# Ultralytics' RT-DETR with ten classes and with two, whose rows are as long as final boxes.
filled("ultralytics_rtdetr", {"output0": ([1, 300, 14], [0.5] * 4 + [0.01] * 10, row(0, 5, columns=[*SHARE_CENTRED, 0.01, 0.01, 0.75]), F)},
       metadata=[*ULTRALYTICS, TEN, ("task", "detect")])
filled("ultralytics_rtdetr_two", {"output0": ([1, 300, 6], [0.5] * 4 + [0.01] * 2, row(0, 5, columns=[*SHARE_CENTRED, 0.01, 0.75]), F)},
       metadata=[*ULTRALYTICS, ("names", "{0: 'a', 1: 'b'}"), ("task", "detect")])

# Hugging Face: DETR with a pixel mask, a table detector with two classes, RT-DETR.
PIXELS = ("pixel_values", T.FLOAT, ["b", 3, "h", "w"])
boxes = ([1, 100, 4], [0.5] * 4, row(0, 5, columns=SHARE_CENTRED), F)
# A softmax of 0.75 beside only one other likely class.
empty = lambda columns: [-20.0] * (columns - 1) + [6.0]
found = lambda columns, index: {(0, 5, index): 6 + float(np.log(3))}
filled("hf_detr", {"logits": ([1, 100, 92], empty(92), found(92, 2), F), "pred_boxes": boxes},
       inputs=[PIXELS, ("pixel_mask", T.INT64, ["b", 64, 64])])
filled("hf_table", {"logits": ([1, 100, 3], empty(3), found(3, 1), F), "pred_boxes": boxes}, inputs=[("pixel_values", T.FLOAT, [1, 3, 64, 64])])
filled("hf_rtdetr", {"logits": ([1, 100, 80], -6.0, {(0, 5, 2): LOGIT}, F), "pred_boxes": boxes},
       inputs=[("pixel_values", T.FLOAT, ["b", 3, 64, 64])])

# PaddleDetection: RT-DETR, PP-YOLOE+ and a model without the number of boxes.
rows = lambda declared: ([2, 6], 0, {**row(0, columns=[2, 0.75, *CORNERS]), **row(1, columns=[0, 0.1, 0, 0, 5, 5])}, F, declared)
PADDLE = ("image", T.FLOAT, ["b", 3, 64, 64])
SCALE, SHAPE = ("scale_factor", T.FLOAT, ["b", 2]), ("im_shape", T.FLOAT, ["b", 2])
filled("paddle_rtdetr", {"reshape2_83.tmp_0": rows(["n", 6]), "tile_3.tmp_0": ([1], 2, {}, np.int32, ["b"])}, inputs=[PADDLE, SHAPE, SCALE])
filled("paddle_yoloe", {"multiclass_nms3_0.tmp_0": rows(["n", 6]), "multiclass_nms3_0.tmp_2": ([1], 2, {}, np.int32, ["b"])}, inputs=[PADDLE, SCALE])
filled("paddle_uncounted", {"save_infer_model_0.tmp_0": rows(["n", 6])}, inputs=[PADDLE, SCALE])

# DeepStream-Yolo of both generations: two rows for one object.
two = {**row(0, 40, columns=[*CORNERS, 0.75, 2]), **row(0, 41, columns=[*(CORNERS + 1), 0.5, 2])}
filled("deepstream", {"output": ([1, 84, 6], [1, 1, 3, 3, 0, 0], two, F, ["batch", 84, 6])}, inputs=[("input", T.FLOAT, ["batch", 3, 64, 64])])
filled("deepstream_first", {
    "boxes": ([1, 84, 4], [1, 1, 3, 3], {**row(0, 40, columns=CORNERS), **row(0, 41, columns=CORNERS + 1)}, F),
    "scores": ([1, 84, 1], 0, {(0, 40, 0): 0.75, (0, 41, 0): 0.5}, F),
    "classes": ([1, 84, 1], 0, {(0, 40, 0): 2, (0, 41, 0): 2}, F)})

# TensorFlow's Object Detection API (y before x, from 1), and TFLite's own detection step (from 0).
y_first = SHARE_CORNERS[[1, 0, 3, 2]]
BYTES = lambda name: [(name, T.UINT8, [1, 64, 64, 3])]
filled("tensorflow", {
    "detection_boxes": ([1, 100, 4], 0, row(0, 0, columns=y_first), F), "detection_classes": ([1, 100], 1, {(0, 0): 3}, F),
    "detection_scores": ([1, 100], 0, {(0, 0): 0.75}, F), "num_detections": ([1], 100, {}, F)}, inputs=BYTES("image_tensor:0"))
filled("tflite_postprocess", {
    "TFLite_Detection_PostProcess": ([1, 10, 4], 0, row(0, 0, columns=y_first), F),
    "TFLite_Detection_PostProcess:1": ([1, 10], 0, {(0, 0): 2}, F),
    "TFLite_Detection_PostProcess:2": ([1, 10], 0, {(0, 0): 0.75}, F),
    "TFLite_Detection_PostProcess:3": ([1], 10, {}, F)}, inputs=BYTES("normalized_input_image_tensor"))

# One decoded row per cell: YOLOv6 with a constant objectness of 1, YOLOX with its own objectness.
filled("yolov6", {"outputs": ([1, 84, 15], [10, 10, 8, 8, 1] + [0] * 10, row(0, 40, columns=[*CENTRED, 1, 0, 0, 0.75]), F)})
filled("yolox_decoded", {"output": ([1, 84, 15], [10, 10, 8, 8, 0.001] + [0.3] * 10, row(0, 40, columns=[*CENTRED, 1, 0, 0, 0.75]), F)})
filled("mmdeploy", {"dets": ([1, 100, 5], 0, row(0, 0, columns=[*CORNERS, 0.75]), F, ["b", "n", 5]),
                    "labels": ([1, 100], 0, {(0, 0): 2}, LONG, ["b", "n"])}, inputs=[("input", T.FLOAT, ["b", 3, 64, 64])])

# Two heads of equal shape, of which the first counts; feature maps beside the detections; grey pictures; normalised boxes; 64-bit
# floats.
column = lambda values, cell=40: {(0, index, cell): number for index, number in enumerate(values)}
v8 = ([1, 14, 84], 0, column([*CENTRED, 0, 0, 0.75]), F)
filled("two_heads", {"output0": v8, "1912": ([1, 14, 84], 0, column([10, 10, 4, 4, 0.9]), F)}, metadata=[TEN])
filled("maps_beside", {"output0": v8, **{f"9{side}": ([1, 74, side, side], 0, {}, F) for side in (8, 4, 2)}}, metadata=[TEN])
filled("grey", {"output0": v8}, inputs=[("images", T.FLOAT, [1, 1, 64, 64])], metadata=[*ULTRALYTICS, TEN, ("channels", "1")])
filled("v8_shares", {"output0": ([1, 14, 84], 0, column([*SHARE_CENTRED, 0, 0, 0.75]), F)}, inputs=[("images", T.FLOAT, [1, 64, 64, 3])],
       metadata=[*ULTRALYTICS, TEN])
filled("v5_shares", {"output": ([1, 252, 15], 0, row(0, 40, columns=[*SHARE_CENTRED, 1, 0, 0, 0.75]), F)}, inputs=[("x", T.FLOAT, [1, 64, 64, 3])])
filled("double", {"output0": ([1, 14, 84], 0, column([*CENTRED, 0, 0, 0.75]), np.float64)}, metadata=[TEN])

# Segmenters without a task in their metadata: the values after the classes are as many as the prototypes.
prototypes = ([1, 32, 16, 16], np.array([[[1]]] + [[[0]]] * 31, F), {}, F)
filled("v5_segment_no_task", {"output0": ([1, 252, 47], 0, row(0, 40, columns=[*CENTRED, 1, 0, 0, 0.75, *[0] * 7, 20]), F), "output1": prototypes},
       metadata=[TEN])
filled("v8_segment_no_task", {"output0": ([1, 46, 84], 0, column([*CENTRED, 0, 0, 0.75, *[0] * 7, 20]), F), "output1": prototypes})

# Raw heads of YOLOv8: one map per stride, or Rockchip's three. Cell (3, 2) of stride 8 is at (28, 20).
sides = lambda cell: {(0, 16 * side + place, *cell): 60.0 for side, distance in enumerate([1.5, 1.5, 2.5, 2.5])
                      for place in (int(distance), int(distance) + 1)}
fill = np.array([0] * 64 + [-20] * 10, F).reshape(74, 1, 1)
raw = lambda side, places: ([1, 74, side, side], fill, places, F)
filled("v8_raw", {"p3": raw(8, {**sides((2, 3)), (0, 66, 2, 3): LOGIT}), "p4": raw(4, {}), "p5": raw(2, {})})
rockchip = {}
for side in (8, 4, 2):
    rockchip[f"box{side}"] = ([1, 64, side, side], 0, sides((2, 3)) if side == 8 else {}, F)
    rockchip[f"cls{side}"] = ([1, 10, side, side], 0, {(0, 2, 2, 3): 0.75} if side == 8 else {}, F)
    rockchip[f"sum{side}"] = ([1, 1, side, side], 0, {(0, 0, 2, 3): 0.75} if side == 8 else {}, F)
filled("v8_rockchip", rockchip)

# Raw heads with anchors. In cell (1, 1) of stride 16 the second anchor of YOLOv5 is 62 by 45, the first of YOLOv4 36 by 75.
shares = [0.75, 0.5, (32 / 62) ** 0.5 / 2, (32 / 45) ** 0.5 / 2]
five = lambda side, places: ([1, 3, side, side, 15], [0] * 4 + [-20] * 11, places, F)
filled("v5_raw", {"p3": five(8, {}), "p4": five(4, row(0, 1, 1, 1, columns=[*map(logit, shares), 20, -20, -20, LOGIT])), "p5": five(2, {})})
planes = lambda side, places: ([1, 45, side, side], 0, places, F)
filled("v5_planes", {"p3": planes(8, {}),
                     "p4": planes(4, {(0, 15 + index, 1, 1): number for index, number in enumerate([*shares, 1, 0, 0, 0.75])}), "p5": planes(2, {})})
four = lambda side, places: ([1, side, side, 3, 15], [0] * 4 + [-20] * 11, places, F)
place = [logit(1.05 / 1.1), logit(0.5), float(np.log(32 / 36)), float(np.log(32 / 75)), 20, -20, -20, LOGIT]
filled("yolov4_zoo", {"Identity:0": four(8, {}), "Identity_1:0": four(4, row(0, 1, 1, 0, columns=place)), "Identity_2:0": four(2, {})},
       inputs=[("input_1:0", T.FLOAT, [1, 64, 64, 3])])
filled("yolov4_torch", {"boxes": ([1, 84, 1, 4], 0, row(0, 40, 0, columns=SHARE_CORNERS), F),
                        "confs": ([1, 84, 10], 0, {(0, 40, 2): 0.75}, F)})
filled("yolov3_zoo", {"boxes": ([1, 20, 4], 0, row(0, 5, columns=CORNERS[[1, 0, 3, 2]]), F), "scores": ([1, 10, 20], 0, {(0, 2, 5): 0.75}, F),
                      "indices": ([1, 3], [0, 2, 5], {}, np.int32, ["n", 3])}, inputs=[IMAGE, ("image_shape", T.FLOAT, [1, 2])])

# DAMO-YOLO, NanoDet, FastestDet, UltraFace, yolov5-face.
filled("damo_yolo", {"output": ([1, 84, 10], 0, {(0, 40, 2): 0.75, (0, 41, 2): 0.5}, F),
                     "949": ([1, 84, 4], [1, 1, 3, 3], {**row(0, 40, columns=CORNERS), **row(0, 41, columns=CORNERS + 1)}, F)})
# Cell (1, 1) of stride 16 is at (24, 24).
reach = {(side, place): 60.0 for side, (low, high) in enumerate([(0, 1), (1, 1), (1, 2), (1, 1)]) for place in {low, high}}
filled("nanodet_v1", {"output": ([1, 84, 42], 0, {(0, 69, 2): 0.75, **{(0, 69, 10 + 8 * s + p): v for (s, p), v in reach.items()}}, F)},
       inputs=[("input.1", T.FLOAT, [1, 3, 64, 64])])
split = {}
for stride, cells in ((8, 64), (16, 16), (32, 4)):
    split[f"cls_pred_stride_{stride}"] = ([1, cells, 10], 0, {(0, 5, 2): 0.75} if stride == 16 else {}, F)
    split[f"dis_pred_stride_{stride}"] = ([1, cells, 32], 0, {(0, 5, 8 * s + p): v for (s, p), v in reach.items()} if stride == 16 else {}, F)
filled("nanodet_v1_split", split, inputs=[("input.1", T.FLOAT, [1, 3, 64, 64])])
filled("fastestdet", {"758": ([1, 15, 4, 4], 0, {(0, 0, 1, 2): 1, (0, 2, 1, 2): float(np.arctanh(0.5)), (0, 7, 1, 2): 0.75}, F)})
filled("ultraface", {"scores": ([1, 235, 2], [1, 0], row(0, 40, columns=[0.25, 0.75]), F), "boxes": ([1, 235, 4], 0, row(0, 40, columns=SHARE_CORNERS), F)})
filled("v5_face", {"output": ([1, 252, 16], [10] * 4 + [0] + [12] * 10 + [0], row(0, 40, columns=[*CENTRED, 1, *[16, 8] * 5, 0.75]), F)})

# Faces with five points, all at (16, 8). SCRFD: two boxes per cell, positions relative to its corner; cell (4, 3) of stride 8 is at
# (32, 24). InsightFace exports it without a batch dimension.
scrfd = {}
for columns, places in ((1, {(56, 0): 0.75, (57, 0): 0.5}), (4, {**row(56, columns=[2] * 4), **row(57, columns=[2] * 4)}),
                        (10, row(56, columns=[-2] * 10))):
    for stride, count in ((8, 128), (16, 32), (32, 8)):
        scrfd[f"out{columns}_{stride}"] = ([count, columns], 0, places if stride == 8 else {}, F)
filled("scrfd", scrfd)
filled("scrfd_boxes", {name: ([1, *shape], fill, {(0, *place): number for place, number in places.items()}, kind)
                       for name, (shape, fill, places, kind) in scrfd.items() if not name.startswith("out10")})
# YuNet: the square root of the product of two scores.
yunet = {}
for kind, columns, places in (("cls", 1, {(0, 28, 0): 0.5625}), ("obj", 1, {(0, 28, 0): 1}),
                              ("bbox", 4, row(0, 28, columns=[0, 0, float(np.log(4)), float(np.log(4))])), ("kps", 10, row(0, 28, columns=[-2] * 10))):
    for stride, count in ((8, 64), (16, 16), (32, 4)):
        yunet[f"{kind}_{stride}"] = ([1, count, columns], 0, places if stride == 8 else {}, F)
filled("yunet", yunet)
# RetinaFace: the second prior box of cell (1, 1) of stride 16 is a square of 128 around (24, 24).
prior = 128 + 2 * 5 + 1
offsets = [8 / 12.8, 0, *[float(np.log(32 / 128)) / 0.2] * 2]
retinaface = lambda points: {"loc": ([1, 168, 4], 0, row(0, prior, columns=offsets), F), "conf": ([1, 168, 2], [1, 0], row(0, prior, columns=[0.25, 0.75]), F),
                             "landms": ([1, 168, 2 * points], 0, row(0, prior, columns=[-8 / 12.8, -16 / 12.8] * points), F)}
filled("retinaface", retinaface(5))
# Number plates, with prior boxes of other sizes; and all values in one output.
filled("retinaface_plate", retinaface(4))
filled("retinaface_joined", {"output0": ([1, 168, 16], 0, row(0, prior, columns=[*offsets, -3, 3, *[0] * 10]), F)})
# Raw heads with three boxes per cell; the last stage of MTCNN, which refines one box.
filled("unknown_levels", {f"{name}_{count}": ([1, count, columns], 0.5, {}, F) for name, columns in (("scores", 1), ("boxes", 4), ("more", 1))
                          for count in (192, 48, 12)})
filled("mtcnn_last", {"boxes": ([1, 4], 0.5, {}, F), "points": ([1, 10], 0.5, {}, F), "scores": ([1, 2], 0.5, {}, F)})
# Raw heads of yolov5-face: the second anchor of stride 16 is 43 by 55.
five = lambda side, places: ([1, 3, side, side, 16], [0] * 4 + [-20] + [0.5, -0.5] * 5 + [4], places, F)
filled("v5_face_raw", {"stride_8": five(8, {}), "stride_32": five(2, {}), "stride_16": five(4, row(0, 1, 1, 1, columns=[
    *map(logit, [0.75, 0.5, (32 / 43) ** 0.5 / 2, (32 / 55) ** 0.5 / 2]), 20, *[0, -8 / 55] * 5, LOGIT]))})

# torchvision takes one picture without a batch dimension; its classes have their own names.
filled("torchvision_single", {"boxes": ([1, 4], CORNERS, {}, F, ["n", 4]), "labels": ([1], 2, {}, LONG, ["n"]), "scores": ([1], 0.75, {}, F, ["n"])},
       inputs=[("image", T.FLOAT, [3, 64, 64])])
# Classes differ from scores in that they are integers.
filled("unnamed_lists", {"a": ([1, 10, 4], 0, row(0, 0, columns=CORNERS), F), "b": ([1, 10], 0, {(0, 0): 0.75}, F), "c": ([1, 10], 0, {(0, 0): 2}, F)})

# Centre and size where most models have corners, and classes as bytes.
filled("centres_in_lists", {"boxes": ([1, 84, 4], [10, 10, 4, 4], row(0, 40, columns=CENTRED), F), "scores": ([1, 84], 0, {(0, 40): 0.75}, F),
                            "class_idx": ([1, 84], 0, {(0, 40): 2}, np.uint8)})
filled("centres_per_class", {"boxes": ([1, 84, 4], [10, 10, 4, 4], row(0, 40, columns=CENTRED), F), "scores": ([1, 84, 10], 0, {(0, 40, 2): 0.75}, F)})

# Input for plausibility checks: scores above 1, nearly empty boxes, metadata that fits nothing.
filled("score_18", {"output0": ([1, 14, 84], 0, column([*CENTRED, 0, 0, 1.8]), F)}, metadata=[*ULTRALYTICS, TEN])
filled("tiny_boxes", {"output0": ([1, 14, 84], 0, column([*SHARE_CENTRED, 0, 0, 0.75]), F)}, metadata=[*ULTRALYTICS, TEN])
filled("broken_names", {"output0": v8}, metadata=[*ULTRALYTICS, ("names", "person; car")])
filled("pose_in_lists", {"boxes": ([1, 10, 4], 0, row(0, 0, columns=CORNERS), F), "scores": ([1, 10], 0, {(0, 0): 0.75}, F),
                         "labels": ([1, 10], 0, {(0, 0): 2}, LONG)}, metadata=[("task", "pose"), ("kpt_shape", "[17, 3]")])

#!/usr/bin/env python3
"""Creates the models in `sizes/`: small detectors, each exported for two input sizes.

    pip install onnx==1.19.1 numpy && tests/models/make_sizes.py

Both files of a pair have the same weights, and constants that depend on the input size as exporters write them. The weights are
random: the detections have no meaning, but both sizes compute the same function.
"""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

HERE = pathlib.Path(__file__).resolve().parent / "sizes"
STRIDES = (8, 16, 32)
CLASSES = 6


class Net:
    """A graph under construction, for inputs of `width` by `height`."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.random = np.random.default_rng(7)
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, array, as_node=False):
        self.count += 1
        name = f"constant_{self.count}"
        tensor = numpy_helper.from_array(np.asarray(array), name)
        if as_node:
            self.nodes.append(h.make_node("Constant", [], [name], value=tensor))
        else:
            self.constants.append(tensor)
        return name

    def op(self, kind, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"{kind.lower()}_{self.count}_{index}" for index in range(outputs)]
        self.nodes.append(h.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, picture, channels_in, channels, kernel=1, stride=1):
        scale = 1 / np.sqrt(channels_in * kernel * kernel)
        weights = self.random.normal(0, scale, (channels, channels_in, kernel, kernel)).astype(np.float32)
        return self.op("Conv", picture, self.constant(weights), strides=[stride] * 2, kernel_shape=[kernel] * 2)

    def grid(self, stride):
        return self.height // stride, self.width // stride

    def cells(self):
        return sum(rows * columns for rows, columns in map(self.grid, STRIDES))

    def reshape(self, picture, *shape, as_node=True):
        return self.op("Reshape", picture, self.constant(np.array(shape, np.int64), as_node))

    def levels(self):
        """Adds features of strides 8, 16 and 32, with 8 channels."""
        first = self.op("Tanh", self.conv("images", 3, 8, 8, 8))
        second = self.op("Tanh", self.conv(first, 8, 8, 2, 2))
        return first, second, self.op("Tanh", self.conv(second, 8, 8, 2, 2))

    def points(self, offset=0.5):
        """Returns cell centres [2, cells] in cells, and strides [1, cells]."""
        points, strides = [], []
        for stride in STRIDES:
            rows, columns = self.grid(stride)
            y, x = np.meshgrid(np.arange(rows) + offset, np.arange(columns) + offset, indexing="ij")
            points.append(np.stack([x.ravel(), y.ravel()]))
            strides.append(np.full((1, rows * columns), stride))
        return np.concatenate(points, 1).astype(np.float32), np.concatenate(strides, 1).astype(np.float32)

    def save(self, name, outputs, dtype=T.FLOAT):
        infos = [h.make_tensor_value_info(key, dtype, shape) for key, shape in outputs.items()]
        for key, (node, names) in zip(outputs, [(self.nodes[-len(outputs) + i], None) for i in range(len(outputs))]):
            node.output[0] = key
        picture = h.make_tensor_value_info("images", T.FLOAT, [1, 3, self.height, self.width])
        graph = h.make_graph(self.nodes, name, [picture], infos, self.constants)
        made = h.make_model(graph, opset_imports=[h.make_opsetid("", 16)], ir_version=8, producer_name="vx tests")
        made = onnx.shape_inference.infer_shapes(made)
        onnx.checker.check_model(made)
        onnx.save(made, HERE / f"{name}_{self.width}x{self.height}.onnx")


def v8(width, height, learned=False):
    """Builds distances from cell centres, as YOLOv8 to 12 decode them, with an attention block at stride 32."""
    net = Net(width, height)
    features = list(net.levels())
    rows, columns = net.grid(32)
    query = net.op("Transpose", net.reshape(features[2], 1, 2, 4, rows * columns), perm=[0, 1, 3, 2])
    if learned:
        table = np.random.default_rng(1).normal(size=(1, 2, rows * columns, 4)).astype(np.float32)
        query = net.op("Add", query, net.constant(table))
    weights = net.op("Softmax", net.op("MatMul", query, net.op("Transpose", query, perm=[0, 1, 3, 2])), axis=3)
    mixed = net.op("Transpose", net.op("MatMul", weights, query), perm=[0, 1, 3, 2])
    features[2] = net.op("Add", features[2], net.reshape(mixed, 1, 8, rows, columns))
    heads = [net.reshape(net.conv(level, 8, 16 + CLASSES), 1, 16 + CLASSES, -1, as_node=False) for level in features]
    both = net.op("Concat", *heads, axis=2)
    boxes, scores = net.op("Split", both, net.constant(np.array([16, CLASSES], np.int64)), outputs=2, axis=1)
    bins = net.op("Softmax", net.op("Transpose", net.reshape(boxes, 1, 4, 4, net.cells()), perm=[0, 2, 1, 3]), axis=1)
    steps = net.constant(np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1))
    sides = net.op("ReduceSum", net.op("Mul", bins, steps), net.constant(np.array([1], np.int64)), keepdims=1)
    sides = net.reshape(sides, 1, 4, net.cells())
    one, two = net.op("Split", sides, net.constant(np.array([2, 2], np.int64)), outputs=2, axis=1)
    points, strides = net.points()
    least = net.op("Sub", net.constant(points[None], True), one)
    most = net.op("Add", net.constant(points[None], True), two)
    centre = net.op("Div", net.op("Add", least, most), net.constant(np.float32(2)))
    box = net.op("Mul", net.op("Concat", centre, net.op("Sub", most, least), axis=1), net.constant(strides))
    net.op("Concat", box, net.op("Sigmoid", scores), axis=1)
    net.save("learned" if learned else "v8", {"output0": [1, 4 + CLASSES, net.cells()]})


def v5(width, height, half=False):
    """Builds grids and anchors for each level, like YOLOv5."""
    net = Net(width, height)
    kind = np.float16 if half else np.float32
    outputs = []
    for index, (level, stride) in enumerate(zip(net.levels(), STRIDES)):
        rows, columns = net.grid(stride)
        head = net.conv(level, 8, 3 * (5 + CLASSES))
        head = net.op("Sigmoid", net.op("Transpose", net.reshape(head, 1, 3, 5 + CLASSES, rows, columns), perm=[0, 1, 3, 4, 2]))
        if half:
            head = net.op("Cast", head, to=T.FLOAT16)
        place, size, rest = net.op("Split", head, net.constant(np.array([2, 2, 1 + CLASSES], np.int64)), outputs=3, axis=4)
        y, x = np.meshgrid(np.arange(rows) - 0.5, np.arange(columns) - 0.5, indexing="ij")
        grid = np.broadcast_to(np.stack([x, y], 2), (1, 3, rows, columns, 2))
        anchors = np.broadcast_to(stride * np.array([[1.25, 1.625], [2, 3.75], [4.125, 2.875]])[None, :, None, None], grid.shape)
        two = net.constant(kind(2))
        place = net.op("Mul", net.op("Add", net.op("Mul", place, two), net.constant(grid.astype(kind))), net.constant(kind(stride)))
        size = net.op("Mul", size, two)
        size = net.op("Mul", net.op("Mul", size, size), net.constant(anchors.astype(kind)))
        level = net.op("Concat", place, size, rest, axis=4)
        outputs.append(net.reshape(level, 1, 3 * rows * columns, 5 + CLASSES))
    net.op("Concat", *outputs, axis=1)
    net.save("v5_half" if half else "v5", {"output0": [1, 3 * net.cells(), 5 + CLASSES]}, T.FLOAT16 if half else T.FLOAT)


def yolox(width, height):
    """Builds rows and columns that are expanded to grids, as YOLOX decodes in its graph."""
    net = Net(width, height)
    heads = [net.reshape(net.conv(level, 8, 5 + CLASSES), 1, 5 + CLASSES, -1) for level in net.levels()]
    rows_of = net.op("Transpose", net.op("Concat", *heads, axis=2), perm=[0, 2, 1])
    place, size, rest = net.op("Split", rows_of, net.constant(np.array([2, 2, 1 + CLASSES], np.int64)), outputs=3, axis=2)
    grids = []
    for stride in STRIDES:
        rows, columns = net.grid(stride)
        shape = net.constant(np.array([rows, columns], np.int64), True)
        y = net.op("Expand", net.constant(np.arange(rows).reshape(rows, 1), True), shape)
        x = net.op("Expand", net.constant(np.arange(columns), True), shape)
        last = net.constant(np.array([-1], np.int64))
        both = net.op("Concat", net.op("Unsqueeze", x, last), net.op("Unsqueeze", y, last), axis=2)
        grids.append(net.op("Cast", net.reshape(both, 1, -1, 2), to=T.FLOAT))
    _, strides = net.points()
    strides = strides.T[None]
    place = net.op("Mul", net.op("Add", place, net.op("Concat", *grids, axis=1)), net.constant(strides))
    size = net.op("Mul", net.op("Exp", size), net.constant(strides))
    net.op("Concat", place, size, net.op("Sigmoid", rest), axis=2)
    net.save("yolox", {"output": [1, net.cells(), 5 + CLASSES]})


def v6(width, height):
    """Builds rows and columns of 64-bit floats that are expanded to grids, and named cells of each level, like Meituan's YOLOv6."""
    net = Net(width, height)
    scores, sides, points = [], [], []
    for level, stride in zip(net.levels(), STRIDES):
        rows, columns = net.grid(stride)
        scores.append(net.reshape(net.op("Sigmoid", net.conv(level, 8, CLASSES)), 1, CLASSES, rows * columns))
        sides.append(net.reshape(net.conv(level, 8, 4), 1, 4, rows * columns))
        shape = net.constant(np.array([rows, columns], np.int64), True)
        y = net.op("Expand", net.constant((np.arange(rows) + 0.5).reshape(rows, 1), True), shape)
        x = net.op("Expand", net.constant(np.arange(columns) + 0.5, True), shape)
        last = net.constant(np.array([-1], np.int64))
        both = net.op("Concat", net.op("Unsqueeze", x, last), net.op("Unsqueeze", y, last), axis=2)
        points.append(net.op("Cast", net.reshape(both, -1, 2), to=T.FLOAT))
    scores, sides = (net.op("Transpose", net.op("Concat", *parts, axis=2), perm=[0, 2, 1]) for parts in (scores, sides))
    points = net.op("Concat", *points, axis=0)
    one, two = net.op("Split", sides, net.constant(np.array([2, 2], np.int64)), outputs=2, axis=2)
    least, most = net.op("Sub", points, one), net.op("Add", points, two)
    centre = net.op("Div", net.op("Add", least, most), net.constant(np.float32(2)))
    _, strides = net.points()
    box = net.op("Mul", net.op("Concat", centre, net.op("Sub", most, least), axis=2), net.constant(strides.T))
    certain = net.constant(np.ones((1, net.cells(), 1), np.float32))
    net.op("Concat", box, certain, scores, axis=2)
    net.save("v6", {"outputs": [1, net.cells(), 5 + CLASSES]})


def coincidence(width, height):
    """Builds a head whose classes are as many as the cells at stride 32 (25), and weights with that many channels.

    Their shapes look like numbers of cells. A rewriting that trusts them breaks the model.
    """
    net = Net(width, height)
    heads = []
    for level in net.levels():
        head = net.conv(level, 8, 4 + 25)
        heads.append(net.reshape(head, 1, 4 + 25, -1))
    both = net.op("Concat", *heads, axis=2)
    boxes, scores = net.op("Split", both, net.constant(np.array([4, 25], np.int64)), outputs=2, axis=1)
    bias = np.random.default_rng(2).normal(size=(1, 25, 1)).astype(np.float32)
    scores = net.op("Sigmoid", net.op("Add", scores, net.constant(bias)))
    net.op("Concat", net.op("Relu", boxes), scores, axis=1)
    net.save("coincidence", {"output0": [1, 4 + 25, net.cells()]})


def raw(width, height):
    """Builds undecoded maps, with a channel shuffle like in ShuffleNet, and mask prototypes."""
    net = Net(width, height)
    first, second, third = net.levels()
    rows, columns = net.grid(8)
    first = net.op("Transpose", net.reshape(first, 1, 2, 4, rows, columns), perm=[0, 2, 1, 3, 4])
    first = net.reshape(first, 1, -1, rows, columns)
    doubled = net.op("Resize", third, "", "", net.constant(np.array([1, 8, *net.grid(16)], np.int64)), mode="nearest")
    second = net.op("Add", second, doubled)
    for level in (first, second, third):
        net.conv(level, 8, 8 + CLASSES)
    shapes = {f"map{stride}": [1, 8 + CLASSES, *net.grid(stride)] for stride in STRIDES}
    net.save("raw", shapes)


HERE.mkdir(exist_ok=True)
for size in ((160, 160), (160, 96), (96, 160)):
    v8(*size)
    v5(*size)
    v5(*size, half=True)
    v6(*size)
    yolox(*size)
    raw(*size)
v8(160, 160, learned=True)
coincidence(160, 160)

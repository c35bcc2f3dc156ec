"""What the Python programs beside this file share: decoding keyframes, the letterbox, and reading boxes."""

import ast

import av
import cv2
import numpy


def size_of(metadata, shape):
    """Returns the side of the model's square input, from its metadata or its declared shape."""
    if "imgsz" in metadata:
        return ast.literal_eval(metadata["imgsz"])[0]
    return shape[2] if isinstance(shape[2], int) else 640


def keyframes(path, threads):
    """Yields the keyframes of a file; nothing else is decoded."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONKEY"
        stream.thread_type = "NONE" if threads == 1 else "AUTO"
        for packet in container.demux(stream):
            if packet.size and not packet.is_keyframe:
                continue
            yield from packet.decode()


def prepare(frame, size):
    """Returns a frame as the input of a YOLO model, f32 [1, 3, size, size], scaled into the middle of a grey square."""
    rgb = frame.to_ndarray(format="rgb24")
    scale = size / max(rgb.shape[:2])
    small = cv2.resize(rgb, (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)))
    canvas = numpy.full((size, size, 3), 114, numpy.uint8)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    canvas[top:top + small.shape[0], left:left + small.shape[1]] = small
    return numpy.ascontiguousarray(canvas.transpose(2, 0, 1)[None].astype(numpy.float32) / 255)


def detections(output):
    """Returns the number of objects in an output [4 + classes, cells] (YOLOv8, 11) or [300, 6] (YOLO26)."""
    if output.shape[-1] == 6:
        return int((output[:, 4] > 0.25).sum())
    scores = output[4:].max(0)
    keep = scores > 0.25
    boxes = output[:4, keep].T.copy()
    boxes[:, :2] -= boxes[:, 2:] / 2
    classes = output[4:, keep].argmax(0)
    return len(cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores[keep].tolist(), classes.tolist(), 0.25, 0.7))

#!/usr/bin/env python3
"""Measures the COCO average precision of the elements and of an independent detector on the same photographs.

    make build
    pip install av numpy opencv-python-headless onnxruntime pycocotools
    benches/accuracy.py --h264 23 35 [--models MODEL...]
    benches/accuracy.py [--images DIR] [--models MODEL...] [--reference PROGRAM] [--cut WIDTH:HEIGHT] [-- PROPERTY=VALUE...]

DIR contains JPEGs and `annotations.json` in COCO format with the 80 COCO classes. Each photograph goes through
`filesrc ! vxkeyframedec ! vxyolodetect ! vxjsonenc`. PROGRAM is called as `PROGRAM coco MODEL DIR -o RESULTS` (reads
photographs with OpenCV), as `PROGRAM detect --conf C MODEL FILES...` (reads them with FFmpeg, like the elements, and prints
JSON lines), and as `PROGRAM coco-score DIR RESULTS`, which prints AP and AP50. OpenCV and FFmpeg round the inverse transform
of a JPEG differently (4 samples in 100, by one or two levels). With dynamically quantised models this alone causes AP
differences of up to 0.01, so the printed difference refers to the FFmpeg results.
Properties are those of vxyolodetect; without any, the table has the CPU provider at the exported input size and at tight ones, and
the automatic choice. With --h264 the photographs are encoded as H.264 keyframes first, with x264 at each of the given rate factors
(CRF), and decoded with and without the loop filter (`skip-loop-filter`); nothing is compared with the reference. Prints a message
and skips if the photographs or the program are missing.

With `--cut 16:9` the middle of each photograph with that aspect ratio is used (9:16 of portraits), and the table compares the CPU
provider at the exported input size and at tight ones, without the reference. An object of which less than 30 % is left is neither
counted as missed nor as false.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
# COCO's IDs of the 80 classes, in the order that detectors are trained with.
CATEGORIES = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
# Small enough for one pipeline description.
AT_ONCE = 20


def records(lines, number):
    """Returns COCO results from JSON lines; `number` returns the image ID of a line."""
    for line in lines:
        line = json.loads(line)
        for found in line["detections"]:
            yield {"image_id": number(line), "category_id": CATEGORIES[found["class_id"]], "bbox": found["box"],
                   "score": found["confidence"]}


def encoded(images, crf, folder):
    """Encodes each photograph as a video of one H.264 keyframe."""
    videos = []
    for number, path in images:
        video = pathlib.Path(folder) / f"{path.stem}-{crf}.mp4"
        # The padding on the right and at the bottom moves no object.
        even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p", "-c:v", "libx264", "-crf", str(crf)]
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", path, *even, "-frames:v", "1", video], check=True)
        videos.append((number, video))
    return videos


def detect(model, images, properties, decoding=()):
    """Runs the elements on all images and returns COCO results; `decoding` are properties of the decoder."""
    environment = dict(os.environ, GST_PLUGIN_PATH=str(ROOT / "target/plugins"), GST_REGISTRY=str(ROOT / "target/gst-registry.bin"))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, len(images), AT_ONCE):
            line = ["gst-launch-1.0", "-q"]
            part = images[first:first + AT_ONCE]
            for _, path in part:
                line += ["filesrc", f"location={path}", "!", "vxkeyframedec", *decoding, "!", "vxyolodetect", f"model-file={model}",
                         "confidence-threshold=0.001", "max-detections=300", *properties, "!", "vxjsonenc", "!",
                         "filesink", f"location={folder}/{path.stem}.json"]
            subprocess.run(line, check=True, env=environment, capture_output=True)
            for number, path in part:
                lines = (pathlib.Path(folder) / f"{path.stem}.json").read_text().splitlines()
                results.extend(records(lines, lambda _: number))
    return results


def average_precision(text):
    """Returns AP50-95 and AP50 from the output of pycocotools."""
    values = re.findall(r"IoU=0\.50(?::0\.95|\s+) *\| area= *all \| maxDets= *\d+ \] = (\d\.\d+)", text)
    if len(values) < 2:
        values = re.findall(r"(\d\.\d{3,})", text)
    return float(values[0]), float(values[1])


def scored(options, found, folder):
    """Returns AP50-95 and AP50 of COCO results."""
    results = pathlib.Path(folder) / "results.json"
    results.write_text(json.dumps(found))
    run = [options.python, options.reference, "coco-score", options.images, results]
    return average_precision(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def measure_loop_filter(options, models, images):
    """Prints the average precision on H.264 keyframes, decoded with and without the loop filter."""
    print(" | ".join(["model".ljust(28), "CRF", "bytes a keyframe", "skip-loop-filter=none", "skip-loop-filter=all"]))
    with tempfile.TemporaryDirectory() as folder:
        for crf in options.h264:
            videos = encoded(images, crf, folder)
            size = sum(path.stat().st_size for _, path in videos) / len(videos)
            for model in models:
                cells = [model.name.ljust(28), f"{crf:3}", f"{size:16.0f}"]
                before = None
                for value in ("none", "all"):
                    found = detect(model, videos, options.properties or ["execution-provider=cpu"], [f"skip-loop-filter={value}"])
                    found = scored(options, found, folder)
                    before = before or found
                    cells.append(f"{found[0]:.3f} / {found[1]:.3f} ({found[0] - before[0]:+.3f})".ljust(21))
                print(" | ".join(cells), flush=True)


def cut(images, ratio, folder):
    """Writes the middle of each photograph to `folder`, with its annotations."""
    import cv2
    wide, high = map(int, ratio.split(":"))
    known = json.loads((images / "annotations.json").read_text())
    areas = {}
    for image in known["images"]:
        picture = cv2.imread(str(images / image["file_name"]))
        height, width = picture.shape[:2]
        across, down = (wide, high) if width >= height else (high, wide)
        scale = min(width / across, height / down)
        across, down = int(across * scale), int(down * scale)
        x, y = (width - across) // 2, (height - down) // 2
        areas[image["id"]] = (x, y, across, down)
        name = pathlib.Path(image["file_name"]).with_suffix(".jpg").name
        cv2.imwrite(str(folder / name), picture[y:y + down, x:x + across], [cv2.IMWRITE_JPEG_QUALITY, 95])
        image.update(file_name=name, width=across, height=down)
    kept = []
    for one in known["annotations"]:
        x, y, across, down = areas[one["image_id"]]
        left, top, width, height = one["bbox"]
        x1, x2 = (min(max(edge - x, 0), across) for edge in (left, left + width))
        y1, y2 = (min(max(edge - y, 0), down) for edge in (top, top + height))
        share = (x2 - x1) * (y2 - y1) / max(width * height, 1e-9)
        if share > 0:
            one.update(bbox=[x1, y1, x2 - x1, y2 - y1], area=one["area"] * share, segmentation=[],
                       iscrowd=one.get("iscrowd", 0) or int(share < 0.3))
            kept.append(one)
    known["annotations"] = kept
    (folder / "annotations.json").write_text(json.dumps(known))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path, default=SHARED / "images")
    parser.add_argument("--models", type=pathlib.Path, nargs="*", default=None)
    parser.add_argument("--reference", type=pathlib.Path, default=SHARED / "reference/reference.py")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the reference")
    parser.add_argument("--h264", type=int, nargs="+", metavar="CRF", help="measure skip-loop-filter at these rate factors")
    parser.add_argument("--cut", metavar="WIDTH:HEIGHT", help="cut the photographs to this aspect ratio")
    parser.add_argument("properties", nargs="*")
    options = parser.parse_args()
    if options.cut and (options.images / "annotations.json").exists():
        with tempfile.TemporaryDirectory() as folder:
            cut(options.images, options.cut, pathlib.Path(folder))
            options.images = pathlib.Path(folder)
            compare(options)
    else:
        compare(options)


def compare(options):
    """Prints the table."""
    annotations = options.images / "annotations.json"
    models = options.models if options.models is not None else sorted((SHARED / "models").glob("*.onnx"))
    for needed in (annotations, options.reference, *models[:1]):
        if not needed.exists():
            print(f"skipped: {needed} is not there")
            return
    known = json.loads(annotations.read_text())["images"]
    images = [(image["id"], options.images / image["file_name"]) for image in known]
    # The reference letterboxes into a square.
    automatic = [["execution-provider=cpu", "input-size=model"], ["execution-provider=cpu"], []]
    if options.cut:
        automatic.pop()
    ways = [options.properties] if options.properties else automatic
    names = [" ".join(way) or "automatic" for way in ways]
    print(f"{len(images)} photographs of {options.images}: AP50-95 / AP50, and the difference in AP50-95")
    if options.h264:
        measure_loop_filter(options, models, images)
        return
    references = [] if options.cut else ["reference".ljust(13), "by FFmpeg".ljust(13)]
    heads = ["model".ljust(28), *references, *(name.ljust(24) for name in names)]
    print(" | ".join(heads))
    numbers = {path.name: number for number, path in images}
    with tempfile.TemporaryDirectory() as folder:
        def score(found):
            return scored(options, found, folder)

        for model in models:
            cells, expected = [model.name.ljust(28)], None
            if references:
                run = [options.python, options.reference, "coco", model, options.images]
                by_opencv = average_precision(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
                run = [options.python, options.reference, "detect", "--conf", "0.001", model, *(path for _, path in images)]
                lines = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()
                expected = score(list(records(lines, lambda line: numbers[pathlib.Path(line["file"]).name])))
                cells += [f"{ap:.3f} / {ap50:.3f}" for ap, ap50 in (by_opencv, expected)]
            for way in ways:
                found = score(detect(model, images, way))
                expected = expected or found
                cells.append(f"{found[0]:.3f} / {found[1]:.3f} ({found[0] - expected[0]:+.3f})".ljust(24))
            print(" | ".join(cells), flush=True)


main()

"""Opens the tables of one run with the libraries that people use, and compares them with its JSON lines.

tables.py FOLDER: found.jsonl, found.csv, found.parquet and found.json in it are of the same files and model. Prints what it has
checked; an exception is a failure. tables.py --check only imports what it needs.
"""

import json
import sys

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.json
import pyarrow.parquet
from pycocotools.coco import COCO


def same(left, right, what):
    assert left == right, f"{what}: {left!r} is not {right!r}"


def check_lines(path, lines):
    """Every reader takes frames, summaries of good and failed files, and headers of one file as one table."""
    kinds = {
        "frames": sum("detections" in line for line in lines),
        "summaries": sum("status" in line for line in lines),
    }
    table = pd.read_json(path, lines=True)
    same(int(table.detections.notna().sum()), kinds["frames"], "frames of pandas")
    table = pl.read_ndjson(path, infer_schema_length=None)
    same(table.filter(pl.col("detections").is_not_null()).height, kinds["frames"], "frames of polars")
    same(table.filter(pl.col("status").is_not_null()).height, kinds["summaries"], "summaries of polars")
    table = pyarrow.json.read_json(path)
    same(table.num_rows - table.column("status").null_count, kinds["summaries"], "summaries of pyarrow")
    query = f"select count(detections), count(status), count(error.message) from read_json_auto('{path}')"
    failed = sum(line.get("error") is not None for line in lines)
    same(duckdb.execute(query).fetchall()[0], (kinds["frames"], kinds["summaries"], failed), "duckdb")


def check_rows(rows, expected, what):
    """Rows as dictionaries against the detections of the lines."""
    same(len(rows), len(expected), f"rows of {what}")
    for row, (frame, found) in zip(rows, expected):
        same(row["file"], frame["file"], what)
        same(row["pts_ns"], frame["pts_ns"], what)
        assert abs(row["seconds"] - frame["pts_ns"] / 1e9) < 1e-9, row
        same(row["keyframe"], frame.get("keyframe", True), what)
        same((row["width"], row["height"]), (frame["width"], frame["height"]), what)
        same((row["label"], row["class_id"]), (found["label"], found["class_id"]), what)
        assert abs(row["confidence"] - found["confidence"]) < 1e-6, row
        box = [row[name] for name in ("x", "y", "box_width", "box_height")]
        assert np.allclose(box, found["box"], atol=1e-3), (box, found)
        for name in ("rotated_box", "keypoints", "mask"):
            value = plain(row[name])
            expected_value = plain(found.get(name))
            if name == "keypoints" and expected_value is not None:
                assert np.allclose(value, expected_value, atol=1e-3), (value, expected_value)
            elif name == "rotated_box" and expected_value is not None:
                assert np.allclose(value, expected_value, atol=1e-3), (value, expected_value)
            else:
                same(value, expected_value, f"{name} of {what}")


def plain(value):
    """A value of several parts as lists, however a library has it; None where there is none."""
    if value is None or isinstance(value, float) and np.isnan(value):
        return None
    if isinstance(value, str):
        return plain(json.loads(value)) if value else None
    if isinstance(value, dict) and "counts" in value:
        size = value.get("size") or [value["rows"], value["columns"]]
        return [list(map(int, size)), list(map(int, value["counts"]))]
    if isinstance(value, dict):
        return [float(part) for part in value.values()]
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(part) if not np.isscalar(part) else float(part) for part in value]
    return value


def duck_rows(path):
    result = duckdb.execute(f"from '{path}'")
    names = [column[0] for column in result.description]
    return [dict(zip(names, row)) for row in result.fetchall()]


def check_tables(folder, expected):
    path = f"{folder}/found.csv"
    numbers = ["pts_ns", "seconds", "width", "height", "class_id", "confidence", "x", "y", "box_width", "box_height"]
    table = pd.read_csv(path)
    assert all(pd.api.types.is_numeric_dtype(table[name]) for name in numbers), table.dtypes
    same(str(table.keyframe.dtype), "bool", "keyframe of pandas")
    check_rows(table.to_dict("records"), expected, "pandas.read_csv")
    table = pl.read_csv(path)
    assert all(table[name].dtype.is_numeric() for name in numbers) and table["keyframe"].dtype == pl.Boolean
    check_rows(table.to_dicts(), expected, "polars.read_csv")
    check_rows(duck_rows(path), expected, "duckdb, csv")

    path = f"{folder}/found.parquet"
    check_rows(pd.read_parquet(path).to_dict("records"), expected, "pandas.read_parquet")
    check_rows(pl.read_parquet(path).to_dicts(), expected, "polars.read_parquet")
    table = pyarrow.parquet.read_table(path)
    check_rows(table.to_pylist(), expected, "pyarrow")
    check_rows(duck_rows(path), expected, "duckdb, parquet")
    return json.loads(pyarrow.parquet.read_schema(path).metadata[b"vx.files"])


def check_coco(path, frames):
    coco = COCO(path)
    same(len(coco.imgs), len(frames), "images")
    names = [image["file_name"] for image in coco.imgs.values()]
    same(len(set(names)), len(names), "file names")
    annotations = coco.loadAnns(coco.getAnnIds())
    found = [(frame, detection) for frame in frames for detection in frame["detections"]]
    same(len(annotations), len(found), "annotations")
    for annotation, (frame, detection) in zip(annotations, found):
        image = coco.imgs[annotation["image_id"]]
        same((image["source"], image["pts_ns"]), (frame["file"], frame["pts_ns"]), "image")
        same(coco.cats[annotation["category_id"]]["name"], detection["label"], "category")
        same(annotation["bbox"], detection["box"], "bbox")
        if "mask" in detection:
            mask = coco.annToMask(annotation)
            same(mask.shape, (frame["height"], frame["width"]), "mask")
            same(int(mask.sum()), int(annotation["area"]), "area")
            same(mask.tolist(), pixels(frame, detection), "pixels of the mask")
        if "rotated_box" in detection:
            area = coco.annToMask(annotation).sum()
            assert abs(area - annotation["area"]) < 0.02 * annotation["area"] + 4, (area, annotation)
        if "keypoints" in detection:
            same(len(annotation["keypoints"]), 3 * len(detection["keypoints"]), "keypoints")
            same(len(coco.cats[annotation["category_id"]]["keypoints"]), len(detection["keypoints"]), "their names")
    if annotations:
        results = coco.loadRes(json.loads(json.dumps(annotations)))
        same(len(results.anns), len(annotations), "results")


def pixels(frame, detection):
    """The mask of a frame, pixel by pixel."""
    rows, columns = detection["mask"]["size"]
    cells = np.concatenate(
        [np.full(count, number % 2) for number, count in enumerate(detection["mask"]["counts"])]
    ).reshape(rows, columns)
    left, top, width, height = detection["box"]
    mask = np.zeros((frame["height"], frame["width"]), dtype=int)
    for y in range(frame["height"]):
        for x in range(frame["width"]):
            across, down = (x + 0.5 - left) / width, (y + 0.5 - top) / height
            if 0 <= across < 1 and 0 <= down < 1:
                mask[y, x] = cells[int(down * rows), int(across * columns)]
    return mask.tolist()


def main(folder):
    path = f"{folder}/found.jsonl"
    with open(path) as file:
        lines = [json.loads(line) for line in file]
    frames = [line for line in lines if "detections" in line]
    check_lines(path, lines)
    expected = [(frame, found) for frame in frames for found in frame["detections"]]
    files = check_tables(folder, expected)
    same([file["file"] for file in files], [line["file"] for line in lines if "status" in line], "vx.files")
    check_coco(f"{folder}/found.json", frames)
    print(f"{folder}: {len(frames)} frames, {len(expected)} detections")


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        if folder != "--check":
            main(folder)

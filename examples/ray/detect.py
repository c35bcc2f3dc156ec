#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Detects objects on the keyframes of many files with a Ray cluster, and writes a folder of Parquet files.

    examples/ray/detect.py /shared/recordings --output /shared/found --model /shared/yolo11n.onnx

Without a cluster it starts Ray on this machine. In a cluster: `ray submit examples/ray/cluster.yaml examples/ray/detect.py -- ARGUMENTS`.
"""

from __future__ import annotations

import argparse

import ray
import vx.ray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", help="files, folders, patterns; the same path on all machines")
    parser.add_argument("--output", required=True, help="folder for the Parquet files")
    parser.add_argument("--model", help="ONNX model; without it, the built-in person detector")
    parser.add_argument("--confidence", type=float, default=0.25)
    parser.add_argument("--summaries", help="folder for the summaries of the files")
    parser.add_argument("--address", help="the cluster; without it, the one of RAY_ADDRESS, or this machine")
    arguments = parser.parse_args()
    ray.init(address=arguments.address)
    found = vx.ray.detect(
        arguments.inputs,
        model=arguments.model,
        confidence=arguments.confidence,
        summaries=arguments.summaries,
    )
    found.write_parquet(arguments.output)
    for row in ray.data.read_parquet(arguments.output).groupby("label").count().take_all():
        print(row)


if __name__ == "__main__":
    main()

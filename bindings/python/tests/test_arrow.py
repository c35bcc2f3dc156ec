# SPDX-License-Identifier: MIT OR Apache-2.0
"""Detections as Arrow tables, compared with the Parquet tables of the command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import vx
from conftest import CLIP, ROOT

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

MODELS = ROOT / "tests/models"


@pytest.mark.parametrize("model", [None, "nms_pose.onnx", "nms_segment.onnx", "nms_obb.onnx"])
def test_the_stream_is_the_parquet_table(command: list[str], tmp_path: Path, model: str | None) -> None:
    options = {"confidence": 0.01, "provider": "cpu", **({"model": str(MODELS / model)} if model else {})}
    table = tmp_path / "found.parquet"
    switches = [f"--{name}={value}" for name, value in options.items()]
    subprocess.run([*command, "detect", "--quiet", "-o", str(table), *switches, str(CLIP)], check=True, timeout=300)
    expected = parquet.read_table(table)
    found = pyarrow.table(vx.detect(CLIP, **options).to_arrow())  # type: ignore[arg-type]
    assert found.schema.equals(expected.schema.remove_metadata())
    assert found.equals(expected.replace_schema_metadata()) and found.num_rows > 0


def test_others_read_the_stream() -> None:
    rows = sum(len(record.detections) for record in vx.detect(CLIP) if isinstance(record, vx.Frame))
    polars, duckdb, pandas = (pytest.importorskip(name) for name in ("polars", "duckdb", "pandas"))
    assert polars.DataFrame(vx.detect(CLIP).to_arrow()).height == rows
    assert len(pandas.DataFrame.from_arrow(vx.detect(CLIP).to_arrow())) == rows
    found = vx.detect(CLIP).to_arrow()
    assert duckdb.sql("select label, count(*) from found group by label").fetchall() == [("person", rows)]
    assert len(pyarrow.table(vx.detect(CLIP))) == rows
    with pytest.raises(RuntimeError, match="read before"):
        pyarrow.table(found)
    # A table must not look complete because the run was closed.
    run = vx.detect(CLIP)
    stream = run.to_arrow()
    run.close()
    with pytest.raises(Exception, match="stopped"):
        pyarrow.table(stream)
    assert pyarrow.schema(vx.detect(CLIP).to_arrow()).names[0] == "file"


def test_a_reader_may_stop_early(copies: Path) -> None:
    run = vx.detect(copies)
    reader = pyarrow.RecordBatchReader.from_stream(run)
    assert reader.read_next_batch().num_rows > 0
    del reader
    assert run.summary is not None and run.summary.is_cancelled


def test_failed_files_and_errors_are_not_silent(inputs: list[str], tmp_path: Path) -> None:
    with pytest.warns(vx.VxWarning, match="broken.mp4"):
        pyarrow.table(vx.detect([CLIP, inputs[-1]]))
    model = tmp_path / "model.onnx"
    model.write_text("not a model")
    with pytest.raises(Exception, match="model.onnx"):
        pyarrow.table(vx.detect(CLIP, model=model))

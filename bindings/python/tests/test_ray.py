# SPDX-License-Identifier: MIT OR Apache-2.0
"""Ray Data on a cluster of several nodes on this machine: `make test-ray`."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.compute
import pytest
import vx
from conftest import CLIP

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 200 << 20}
    )
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    ray.init(address=cluster.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def rows(table: pyarrow.Table) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in table.to_pylist())


def table_of(dataset: object) -> pyarrow.Table:
    return pyarrow.concat_tables(ray.get(dataset.to_arrow_refs()))  # type: ignore[attr-defined]


def test_rows_are_those_of_a_run(cluster: object, inputs: list[str], tmp_path: Path) -> None:
    import vx.ray

    options = {"provider": "cpu", "confidence": 0.1}
    with pytest.warns(vx.VxWarning):
        expected = pyarrow.table(vx.detect(inputs, **options))  # type: ignore[arg-type]
    dataset = vx.ray.detect(inputs, summaries=tmp_path / "summaries", **options)
    found = table_of(dataset)
    assert found.schema.remove_metadata().equals(expected.schema)
    assert rows(found) == rows(expected) and expected.num_rows > 0
    lines = [line for file in (tmp_path / "summaries").glob("*.jsonl") for line in file.read_text().splitlines()]
    summaries = {summary.file: summary.status for summary in map(vx.FileSummary.from_json, lines)}
    assert len(lines) == len(summaries) == len(inputs) and summaries[inputs[-1]] == "failed"
    paths = ray.data.from_items([{"path": path} for path in inputs])
    assert rows(table_of(vx.ray.detect(paths, **options))) == rows(expected)


def test_wrong_options_and_failures_are_errors(cluster: object, inputs: list[str]) -> None:
    import vx.ray

    with pytest.raises(TypeError, match="write_parquet"):
        vx.ray.detect(CLIP, output="found.parquet")
    with pytest.raises(TypeError, match="colour"):
        vx.ray.detect(CLIP, colour="red")
    with pytest.raises(vx.Error, match="ftp"):
        vx.ray.detect("ftp://host/a.mp4")
    with pytest.raises(Exception, match="broken.mp4"):
        vx.ray.detect(inputs[-1], on_failed="raise").materialize()


def test_bundles_are_balanced() -> None:
    import vx.ray

    sized = [(1000, "large")] + [(10, f"{number}") for number in range(600)]
    bundles = list(vx.ray._bundles(sized, target=500, fewest=1))
    assert bundles[0] == [(1000, "large")] and sum(map(len, bundles)) == 601
    assert max(len(bundle) for bundle in bundles) == 50
    assert [len(bundle) for bundle in vx.ray._bundles(sized, target=0, fewest=4)][:2] == [4, 4]
    assert len(next(vx.ray._bundles([(0, str(number)) for number in range(999)], 1, 1))) == 256


def test_an_actor_loads_the_model_once(cluster: object) -> None:
    import vx.ray

    reader = vx.ray._Reader({"provider": "cpu"}, "files", "warn", None)
    batch = pyarrow.table({"files": [[str(CLIP)]]})
    loads = reader._detector.engine["model_loads"]
    assert reader(batch).equals(reader(batch))
    assert reader._detector.engine["model_loads"] == loads


def test_a_node_that_dies_costs_no_rows_and_doubles_none(cluster: object, copies: Path, tmp_path: Path) -> None:
    import vx.ray

    expected = pyarrow.table(vx.detect(copies, provider="cpu"))
    doomed = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)  # type: ignore[attr-defined]
    cluster.wait_for_nodes()  # type: ignore[attr-defined]
    summaries = tmp_path / "summaries"
    dataset = vx.ray.detect(copies, provider="cpu", actors=3, summaries=summaries)
    killed = threading.Event()

    def kill() -> None:
        # In the middle: some bundles are done, others are not.
        while len(list(summaries.glob("*.jsonl"))) < 4:
            time.sleep(0.01)
        cluster.remove_node(doomed, allow_graceful=False)  # type: ignore[attr-defined]
        killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    found = table_of(dataset)
    killer.join()
    assert killed.is_set() and rows(found) == rows(expected) and expected.num_rows > 60
    lines = [line for file in summaries.glob("*.jsonl") for line in file.read_text().splitlines()]
    assert len({json.loads(line)["file"] for line in lines}) == len(lines) == len(list(copies.iterdir()))

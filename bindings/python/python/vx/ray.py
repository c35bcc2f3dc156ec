# SPDX-License-Identifier: MIT OR Apache-2.0
# Ray and pyarrow have no complete types, and may not be installed where this is checked.
# mypy: disable-error-code="import-untyped,import-not-found,no-untyped-call,no-any-return"
"""Many files on many machines, with Ray Data.

`detect` returns a Dataset with a row for each detection, in the schema of the Parquet tables. An actor on each machine loads the model once
and keeps it from file to file. A machine that is lost takes only the files with it that it was reading, and those whose rows nobody had
fetched; Ray reads these again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union
from urllib.parse import unquote_to_bytes

import pyarrow
import ray
import ray.data

import vx

from . import _vx
from ._detect import Inputs, _arguments

if TYPE_CHECKING:
    from ray.data import Dataset

# Options of `vx.detect` that are about one output of one process.
_NOT_HERE = {
    "output": "write the Dataset: `write_parquet`, `write_json`, …",
    "format": "write the Dataset: `write_parquet`, `write_json`, …",
    "resume": "set `cache` to a folder that all machines share: files with a result are not read again",
    "retry_failed": "files that failed are read again by the next run",
    "overwrite": "write the Dataset with the `mode` of its writer",
    "shard": "Ray distributes the files",
    "stop_on_error": "set `on_failed` to \"raise\"",
}
# Options of `vx.Detector`.
_OF_MODEL = ("model", "labels", "confidence", "iou", "classes", "provider", "set", "memory_limit")
# Each actor gets this many bundles of files, if there are enough files: the fewer bytes a bundle has, the less the last one delays.
_BUNDLES_PER_ACTOR = 16
# Most files of a bundle: what is read again when a machine is lost.
_MAX_FILES = 256

_log = logging.getLogger("vx.ray")


def detect(
    inputs: Union[Inputs, Dataset],
    *,
    column: str = "path",
    actors: int | None = None,
    cpus_per_actor: int | None = None,
    gpus_per_actor: float = 0,
    on_failed: Literal["warn", "raise"] = "warn",
    summaries: Union[str, os.PathLike[str], None] = None,
    **options: Any,
) -> Dataset:
    """Detects objects on the keyframes of files, and returns a Dataset with a row for each detection.

    inputs          files, folders and patterns as for `vx.detect`, which all machines see under the same path; or a Dataset with paths
    column          the column of such a Dataset that has the paths
    actors          processes that read files, each with the model; None: one for each `cpus_per_actor` CPUs of the cluster
    cpus_per_actor  CPUs of each; None: those of the smallest machine, so that a machine loads the model once
    gpus_per_actor  GPUs of each
    on_failed       what a file that cannot be read does: "warn" logs it, "raise" ends the run
    summaries       folder that all machines share, for the summaries of the files as JSON lines
    options         those of `vx.detect`: model, confidence, classes, provider, every, cache and others

    Large files come first, and small ones in bundles, so that machines are done at about the same time.
    """
    for name in options:
        if name in _NOT_HERE:
            raise TypeError(f"{name} is not an option of vx.ray.detect: {_NOT_HERE[name]}")
    arguments = _arguments(options)
    if not ray.is_initialized():
        ray.init()
    cpus, actors = _plan(cpus_per_actor, actors)
    options = _limited(options, cpus, _most_cpus())
    if isinstance(inputs, ray.data.Dataset):
        dataset, batch_size = inputs, max(cpus, _MAX_FILES // _BUNDLES_PER_ACTOR)
    else:
        dataset, batch_size, column = _bundled(inputs, arguments, actors, cpus), 1, "files"
    return dataset.map_batches(
        _Reader,
        batch_size=batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
        fn_constructor_kwargs={
            "options": options,
            "column": column,
            "on_failed": on_failed,
            "summaries": None if summaries is None else os.fspath(summaries),
        },
        # One CPU of each machine is left for what follows, such as writing.
        num_cpus=cpus - 1,
        num_gpus=gpus_per_actor,
        scheduling_strategy="SPREAD",
    )


def _plan(cpus: int | None, actors: int | None) -> tuple[int, int]:
    """Returns the CPUs of each actor and the number of actors."""
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    nodes = [count for count in nodes if count > 0] or [1]
    cpus = cpus or min(nodes)
    return cpus, actors or max(1, sum(count // cpus for count in nodes))


def _most_cpus() -> int:
    return int(max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0))


def _limited(options: Mapping[str, Any], cpus: int, most: int) -> dict[str, Any]:
    """Returns options that keep an actor to its CPUs, where it may share its machine."""
    if cpus >= most == os.cpu_count():
        return dict(options)
    chosen = {"sessions": cpus, "intra-op-threads": 1, **(options.get("set") or {})}
    return {"lanes": cpus, **options, "set": chosen}


def _bundled(inputs: Inputs, arguments: dict[str, Any], actors: int, cpus: int) -> Dataset:
    """Returns a Dataset of bundles of files, those with the largest files first."""
    files, failures = _vx.find(inputs, arguments)
    # An input that does not exist is a file that fails.
    files += [name for name, _ in failures]
    sized = sorted(((_size(name), name) for name in files), key=lambda file: (-file[0], file[1]))
    target = sum(size for size, _ in sized) / (actors * _BUNDLES_PER_ACTOR)
    fewest = min(cpus, max(1, len(files) // actors))
    bundles = [{"files": [name for _, name in bundle]} for bundle in _bundles(sized, target, fewest)]
    table = pyarrow.Table.from_pylist(bundles, schema=pyarrow.schema([("files", pyarrow.list_(pyarrow.string()))]))
    # A block each, which is what an actor gets and what is read again.
    return ray.data.from_arrow([table.slice(index, 1) for index in range(table.num_rows)])


def _bundles(sized: Iterable[tuple[int, str]], target: float, fewest: int) -> Iterator[list[tuple[int, str]]]:
    """Splits files into bundles of `target` bytes and at least `fewest` files, which one actor reads side by side."""
    bundle: list[tuple[int, str]] = []
    for file in sized:
        bundle.append(file)
        is_full = len(bundle) >= fewest and sum(size for size, _ in bundle) >= target
        if is_full or len(bundle) >= _MAX_FILES:
            yield bundle
            bundle = []
    if bundle:
        yield bundle


def _size(name: str) -> int:
    scheme = "file://"
    path = unquote_to_bytes(name[len(scheme) :]) if name.startswith(scheme) else os.fsencode(name)
    try:
        return os.stat(path).st_size
    except OSError:
        # The file's summary says what is wrong.
        return 0


class _Reader:
    """An actor: reads bundles of files, with one model for all of them."""

    def __init__(
        self, options: dict[str, Any], column: str, on_failed: str, summaries: str | None
    ) -> None:
        self._options, self._column, self._on_failed = options, column, on_failed
        self._summaries = None if summaries is None else Path(summaries)
        # Runs with the same settings share its model.
        self._detector = vx.Detector(**{name: value for name, value in options.items() if name in _OF_MODEL})

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        files: list[str] = []
        for value in batch[self._column].to_pylist():
            files.extend([value] if isinstance(value, str) else value)
        with warnings.catch_warnings(record=True) as warned, vx.detect(vx.FileList(files), **self._options) as run:
            warnings.simplefilter("always", vx.VxWarning)
            table = pyarrow.table(run)
            done = run.file_summaries
            if run.summary is None or run.summary.missing:
                raise vx.Error(f"{len(files)} files were not all read: {run.summary}")
        for text in {str(warning.message) for warning in warned if issubclass(warning.category, vx.VxWarning)}:
            _log.warning(text)
        self._report(files, done)
        # The same rows in the same order whenever it is read, since Ray may fetch a part of them again.
        names = table["file"].to_pylist()
        order = sorted(range(len(names)), key=names.__getitem__)
        return table.take(pyarrow.array(order, pyarrow.int64()))

    def _report(self, files: list[str], done: list[vx.FileSummary]) -> None:
        if self._summaries is not None:
            # Of one name for one bundle, whoever reads it and how often.
            name = hashlib.sha256("\0".join(files).encode()).hexdigest()[:32]
            self._summaries.mkdir(parents=True, exist_ok=True)
            new = self._summaries / f".{name}.{os.getpid()}"
            new.write_text("".join(f"{summary.to_json()}\n" for summary in sorted(done, key=lambda each: each.file)))
            new.rename(self._summaries / f"{name}.jsonl")
        for summary in done:
            if summary.status == "failed" and self._on_failed == "raise":
                raise vx.Error(f"{summary.file}: {summary.error}")

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs in coroutines: waits happen in a thread, records are taken in the loop's own, so that none is lost when a task is cancelled."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._vx import FileSummary, Frame, Run

# Longest wait of the thread, which ends with the loop, in seconds.
_WAIT = 0.25


class Records:
    """The asynchronous iterator of a run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vxasyncio")

    def __aiter__(self) -> Records:
        return self

    async def __anext__(self) -> Frame | FileSummary:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    record = self._run._poll()
                except StopIteration:
                    self._thread.shutdown(wait=False)
                    raise StopAsyncIteration from None
                if record is not None:
                    return record
                await loop.run_in_executor(self._thread, self._run._wait, _WAIT)
        except asyncio.CancelledError:
            self._run.stop()
            self._thread.shutdown(wait=False)
            raise


async def enter(run: Run) -> Run:
    return run


async def close(run: Run) -> None:
    await asyncio.get_running_loop().run_in_executor(None, run.close)

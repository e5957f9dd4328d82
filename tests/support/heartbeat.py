"""How long the event loop stood still, as far as that is our doing."""

from __future__ import annotations

import asyncio
import gc
from types import TracebackType
from typing import Self

from .stopwatch import Stopwatch

INTERVAL = 0.005  # seconds
LONGEST_GAP = 0.05
"""Seconds that the loop may stand still at most: the contract."""


class Heartbeat:
    """Beats every 5 ms while entered; `longest` is the longest gap on the loop, in seconds.

    What other programs took of it does not count (`Stopwatch`).
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    async def _beat(self) -> None:
        while True:
            watch = Stopwatch()
            await asyncio.sleep(INTERVAL)
            self.longest = max(self.longest, watch.elapsed - INTERVAL)

    async def __aenter__(self) -> Self:
        # What the tests before have left in memory is not to be looked through meanwhile.
        gc.collect()
        gc.freeze()
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(2 * INTERVAL)
        self.longest = 0.0
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        await asyncio.sleep(2 * INTERVAL)
        self._task.cancel()
        await asyncio.wait({self._task})
        gc.unfreeze()


class SteadyHeartbeat(Heartbeat):
    """One that fails the test when the loop stood still for longer than the contract allows."""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await super().__aexit__(exc_type, exc, traceback)
        if exc is None:
            assert self.longest < LONGEST_GAP, f"the loop stood still for {self.longest:.3f} s"

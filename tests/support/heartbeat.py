"""How long the event loop stood still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

INTERVAL = 0.005  # seconds
LONGEST_GAP = 0.05
"""Seconds that the loop may stand still at most."""


class Heartbeat:
    """Beats every 5 ms while entered; `longest` is the longest gap on the loop, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    async def _beat(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(INTERVAL)
            now = time.monotonic()
            self.longest = max(self.longest, now - last - INTERVAL)
            last = now

    async def __aenter__(self) -> Self:
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


def tries() -> Iterator[Heartbeat]:
    """Heartbeats to run a scenario under, until it has run without a gap.

    A busy machine stops everybody now and then; a stall of our own comes every time.
    """
    gaps = []
    for _ in range(3):
        heart = Heartbeat()
        yield heart
        gaps.append(heart.longest)
        if heart.longest < LONGEST_GAP:
            return
    raise AssertionError(f"the loop stood still for {min(gaps):.3f} s and more")

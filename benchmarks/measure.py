"""Timing that can be trusted on a shared machine: interleaved rounds, the best of each subject.

A machine's speed drifts by more than the differences that matter here. So the subjects take turns,
one round each, again and again; the best round of each is what it costs when nobody else is busy,
and the figures to quote are ratios within one run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

MICRO = 1_000_000


class Subject(Protocol):
    """Something whose cost per operation is measured."""

    name: str

    async def start(self) -> None:
        """Set up, outside the measurement."""

    async def run(self, operations: int) -> None:
        """Do so many operations, and whatever they leave to be done afterwards."""

    async def stop(self) -> None:
        """Clean up, outside the measurement."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The best round of one subject."""

    name: str
    microseconds: float
    """CPU time of the whole process, per operation."""


async def compare(subjects: Sequence[Subject], *, rounds: int, operations: int) -> dict[str, Cost]:
    """The cost of each subject, by name."""
    for subject in subjects:
        await subject.start()
    try:
        for subject in subjects:
            await subject.run(operations)  # warm up
        best = dict.fromkeys((subject.name for subject in subjects), float("inf"))
        for _ in range(rounds):
            for subject in subjects:
                best[subject.name] = min(best[subject.name], await _round(subject.run, operations))
    finally:
        for subject in subjects:
            await subject.stop()
    return {name: Cost(name, seconds * MICRO) for name, seconds in best.items()}


async def _round(run: Callable[[int], Awaitable[None]], operations: int) -> float:
    # The garbage of the others first. What a subject's own objects cost the collector is counted.
    gc.collect()
    before = time.process_time()
    await run(operations)
    return (time.process_time() - before) / operations

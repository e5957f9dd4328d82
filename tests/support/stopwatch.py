"""How long something took, without the time that other programs took from this one.

Linux tells for each thread how long it was ready and waited for a processor. A machine that is busy
with something else adds to that and to nothing else; our own work, our waiting and our threads'
quarrels about the interpreter lock do not. So limits can be tight and hold on any machine. Where
the figure is not to be had, nothing is taken off.

Only of the standard library: the programs that tests start import it, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

GRACE = 0.2
"""Seconds beyond its time-out after which whatever has one is over: the contract."""

_TASKS = Path("/proc/self/task")


def _waits() -> Mapping[str, int]:
    """Nanoseconds that each thread of this process has waited for a processor."""
    waits: dict[str, int] = {}
    try:
        for thread in os.listdir(_TASKS):
            try:
                waits[thread] = int((_TASKS / thread / "schedstat").read_bytes().split()[1])
            except (OSError, IndexError):  # it has ended; or there is no such figure
                continue
    except OSError:
        pass
    return waits


class Stopwatch:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._waits = _waits()
        self._begun = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds until now, but for those in which a thread of ours waited for a processor."""
        wall = time.monotonic() - self._begun
        waits = _waits()
        # Of all threads: one that holds the interpreter lock and gets no processor stops them all.
        stolen = sum(max(0, wait - self._waits.get(name, 0)) for name, wait in waits.items())
        return wall - stolen / 1e9

    def __repr__(self) -> str:
        return f"<Stopwatch {self.elapsed:.3f} s>"


@contextmanager
def in_time(timeout: float, *, grace: float = GRACE) -> Iterator[None]:
    """What is done within keeps this time-out."""
    watch = Stopwatch()
    yield
    elapsed = watch.elapsed
    assert elapsed < timeout + grace, f"{elapsed:.3f} s for a time-out of {timeout} s"

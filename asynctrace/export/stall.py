"""How long our own work holds the event loop at a stretch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class StallMeter:
    """Keeps the longest slice of the tasks and calls that it is given to measure.

    A slice is what a task does between two waits, with everything that it calls, such as the HTTP
    client. Measured by the clock on the wall: another thread that held the interpreter, or a
    machine that was busy, is in it, as it is for those who waited for the loop.

    It costs two looks at the clock for each slice. There are a handful of them for each batch.
    """

    __slots__ = ("_clock", "longest")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.longest = 0.0
        """Seconds."""
        self._clock = clock

    def measured(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """The same coroutine, each of its slices noted. Transparent to results and cancellation."""
        return _Measured(self, work)

    def begin(self) -> float:
        """The time at which a slice begins, for `end`."""
        return self._clock()

    def end(self, begun: float) -> None:
        """Note a slice that ends now."""
        elapsed = self._clock() - begun
        if elapsed > self.longest:
            self.longest = elapsed

    def end_call(self, begun: float) -> None:
        """The same for a call that may be made in any thread: without a loop it held none."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self.end(begun)

    def __repr__(self) -> str:
        return f"<StallMeter {self.longest * 1000:.3f} ms>"


class _Measured(Coroutine[Any, Any, T]):
    """A coroutine with a look at the clock before and after each step.

    Not an `async def` around it: one that is cancelled before its first step would leave the inner
    one behind, never awaited.
    """

    __slots__ = ("__name__", "_meter", "_work")

    def __init__(self, meter: StallMeter, work: Coroutine[Any, Any, T]) -> None:
        self._meter = meter
        self._work = work
        self.__name__ = getattr(work, "__name__", "")  # for the repr of a task

    def __await__(self) -> Generator[Any, Any, T]:
        return (yield from self._work.__await__())  # only a task drives the steps measured here

    def send(self, value: Any, /) -> Any:
        begun = self._meter.begin()
        try:
            return self._work.send(value)
        finally:
            self._meter.end(begun)

    def throw(self, *error: Any) -> Any:
        begun = self._meter.begin()
        try:
            return self._work.throw(*error)
        finally:
            self._meter.end(begun)

    def close(self) -> None:
        self._work.close()

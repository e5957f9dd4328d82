"""A store without the blocking: saved to in daemon threads, with figures and two log lines."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from asynctrace import _threads
from asynctrace.export.contracts import Batch, SpanDropReason
from asynctrace.export.reports import SpoolStatistics
from asynctrace.export.stall import StallMeter

from .rules import failure_reason
from .store import Store

logger = logging.getLogger("asynctrace")

WRITE_TIMEOUT = 10.0
"""Seconds after which a disk that does not answer is given up, for one batch."""


@dataclass(slots=True)
class Tally:
    """What became of the records that were read."""

    replayed: int = 0
    """Spans that the receiver has taken."""
    rejected: int = 0
    """Spans that it refused for ever."""
    too_large: int = 0
    """Spans that were, each alone in a request, more than it takes."""
    damaged: int = 0
    """Stretches of a segment that were skipped."""


class Spool:
    """Where a pipeline puts what it cannot deliver. `save` on the host, `save_now` anywhere.

    Both return None when the batch is on disk, else the reason for which it is dropped.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tally = Tally()
        self.inline = False
        """Whether threads can be had no more, and nobody minds the blocking: at the exit."""
        self.last_error: str | None = None
        self.last_error_time: float | None = None
        self._complained = False
        self._dropped = 0

    async def save(self, batch: Batch) -> str | None:
        """Write a batch in a daemon thread. Cancelled, nobody knows whether it was written."""
        if self.inline:
            return self.save_now(batch)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await _threads.call(self._write, batch)
        except Exception as error:  # a disk may cost spans, and never the drain task
            return self._failed(batch, error)
        self._worked()
        return None

    def save_now(self, batch: Batch) -> str | None:
        """Write a batch in this very thread: while the interpreter exits, there is no other."""
        try:
            self._write(batch)
        except Exception as error:  # nor the exit
            return self._failed(batch, error)
        self._worked()
        return None

    async def prepare(self) -> None:
        """Find out at the start, and say so, when the directory cannot be written."""
        try:
            await _threads.call(self.store.prepare)
        except (OSError, RuntimeError) as error:  # it cannot be made, or no thread can be started
            self._complain(error)

    def statistics(self) -> SpoolStatistics:
        tally = self.tally
        return SpoolStatistics(
            replayed=tally.replayed,
            rejected=tally.rejected,
            too_large=tally.too_large,
            damaged=tally.damaged,
            evicted=self.store.evicted,
            bytes=self.store.bytes,
            last_error=self.last_error,
            last_error_time=self.last_error_time,
        )

    def after_fork(self) -> None:
        """In a forked child: nothing written, nothing counted."""
        self.store.after_fork()
        self.tally = Tally()
        self.last_error = self.last_error_time = None
        self._complained = False
        self._dropped = 0

    def note(self, error: BaseException) -> None:
        """Keep an error for `statistics()`."""
        self.last_error = str(error) or type(error).__name__
        self.last_error_time = time.time()

    def _write(self, batch: Batch) -> None:
        self.store.append(batch.to_otlp(), len(batch))

    def _failed(self, batch: Batch, error: Exception) -> str:
        self._complain(error)
        self._dropped += len(batch)
        return failure_reason(error) if isinstance(error, OSError) else SpanDropReason.SPOOL_ERROR

    def _complain(self, error: Exception) -> None:
        self.note(error)
        if not self._complained:
            self._complained = True
            logger.warning(
                "Spans cannot be written to the spool %s: %s. Hint: they are dropped and counted "
                "in statistics(); this is not logged again until the spool can be written.",
                self.store.directory,
                self.last_error,
            )

    def _worked(self) -> None:
        if self._complained:
            logger.warning(
                "The spool %s can be written again; %d spans were dropped.",
                self.store.directory,
                self._dropped,
            )
        self._complained = False
        self._dropped = 0

    def __repr__(self) -> str:
        return f"<Spool {self.store!r}>"


class Saver:
    """Saves batches one after the other; whoever waits may be cancelled, the writing is not.

    A batch whose waiter was cancelled is still being written. To write it again would store it
    twice, so whoever closes calls `finish` before it looks at what is left.
    """

    def __init__(
        self, spool: Spool, enter: Callable[[Batch, str | None], None], *, stalls: StallMeter
    ) -> None:
        """`enter` is told what became of each batch: None, or the reason for dropping it."""
        self._spool = spool
        self._enter = enter
        self._measured = stalls.measured
        self._batch: Batch | None = None
        self._writing: asyncio.Task[str | None] | None = None

    def holds(self, batch: Batch) -> bool:
        """Whether it is not known yet, or not told, what becomes of this batch."""
        return self._batch is batch

    async def save(self, batch: Batch) -> None:
        self._batch = batch
        self._writing = asyncio.create_task(self._measured(self._spool.save(batch)))
        await self.finish()

    async def finish(self) -> None:
        """Wait until nothing is being written."""
        batch, writing = self._batch, self._writing
        if batch is not None and writing is not None:
            reason = await asyncio.shield(writing)
            self.forget()
            self._enter(batch, reason)

    def forget(self) -> None:
        """Nobody will know what becomes of the batch that is being written."""
        self._batch = self._writing = None

"""From disk to the collector: at the start of a process, and whenever the collector is back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from asynctrace import _threads
from asynctrace.export.contracts import Batch, Delivered, Outcome, Undelivered

from .format import Record
from .rules import is_worth_keeping
from .segments import Claim
from .splitting import halves
from .spool import Spool, Tally
from .stored import StoredBatch

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between two looks at a spool in which nothing was found, or nothing could be sent."""

_NOT_NOW = Undelivered("busy", "there are newer spans to be sent first", retryable=True)


@dataclass(slots=True)
class Pace:
    """When the spool is looked at next: a pure rule; times are of one monotonic clock."""

    due: float = 0.0
    pause: float = FIRST_PAUSE

    def at_once(self) -> None:
        """There is something to be sent, and somebody who takes it."""
        self.due = 0.0
        self.pause = FIRST_PAUSE

    def later(self, now: float, *, jitter: float) -> None:
        """It was of no use; `jitter` is a random number in [0, 1)."""
        self.due = now + self.pause * (0.5 + jitter / 2)
        self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def soon(self, now: float) -> None:
        """Something new waits; whether it can be sent is not known."""
        self.due = min(self.due, now + FIRST_PAUSE)


async def send_segment(
    claim: Claim, send: Callable[[Batch], Awaitable[Outcome]], tally: Tally
) -> Undelivered | None:
    """Send what a claimed segment holds, acknowledge each record, and delete the segment.

    Returns the failure that put an end to it, or None when the segment is done. What is sent is
    counted in `tally`. Cancelled, the record in hand is sent again another time.

    Raises:
        OSError: the segment cannot be read or deleted.
    """
    contents = await _threads.call(claim.read)
    for record in contents.records:
        failure = await _send_record(record, send, tally)
        if failure is not None:
            return failure
        with suppress(OSError):  # a full disk: the record may be sent twice
            await _threads.call(claim.acknowledge, record)
    tally.damaged += contents.damaged  # not before: until all is sent, it is read again
    await _threads.call(claim.delete)
    return None


async def _send_record(
    record: Record, send: Callable[[Batch], Awaitable[Outcome]], tally: Tally
) -> Undelivered | None:
    """Send one request, in smaller ones where it is too large; the failure to keep it for."""
    outcome = await send(StoredBatch.of(record))
    # First of all: the same request will be too large another time, too, whatever else is said.
    if isinstance(outcome, Undelivered) and outcome.too_large:
        return await _send_parts(record, send, tally)
    if is_worth_keeping(outcome):
        return outcome
    _enter(record, outcome, tally)
    return None


async def _send_parts(
    record: Record, send: Callable[[Batch], Awaitable[Outcome]], tally: Tally
) -> Undelivered | None:
    """Send a request that is too large in two; a single span, which cannot be, is dropped."""
    parts = await _threads.call(halves, record)
    if not parts:
        tally.too_large += record.spans
    for part in parts:
        failure = await _send_record(part, send, tally)
        if failure is not None:
            return failure
    return None


def _enter(record: Record, outcome: Outcome, tally: Tally) -> None:
    refused = outcome.rejected if isinstance(outcome, Delivered) else record.spans
    rejected = min(max(refused, 0), record.spans)
    tally.replayed += record.spans - rejected
    tally.rejected += rejected


class Replay:
    """Sends the segments of one exporter, one record at a time, while newer spans leave room."""

    def __init__(
        self,
        spool: Spool,
        *,
        send: Callable[[Batch], Awaitable[Outcome]],
        calm: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._spool = spool
        self._send = send
        self._calm = calm
        self._clock = clock
        self._jitter = jitter
        self._pace = Pace()
        self._waiting = True
        self._claim: Claim | None = None
        self._wake: asyncio.Event | None = None

    def delivered(self) -> None:
        """The pipeline has delivered a batch: the collector is there."""
        if self._waiting:
            self._pace.at_once()
            self._look_up()

    def failed(self) -> None:
        """The pipeline could not deliver: neither could this."""
        self._pace.later(self._clock(), jitter=self._jitter())

    def spooled(self) -> None:
        """Something was written."""
        self._waiting = True
        self._pace.soon(self._clock())
        self._look_up()

    async def run(self) -> None:
        """Send what is there and what comes, until it is cancelled; a claim is given up then."""
        self._wake = asyncio.Event()
        await self._spool.prepare()
        while True:
            await self._until_due()
            try:
                done = await self._send_oldest()
            except Exception as error:  # one segment that is bad in a new way stops no other
                self._spool.note(error)
                done = False
            if done:
                self._pace.at_once()
            else:
                self._pace.later(self._clock(), jitter=self._jitter())

    def after_fork(self) -> None:
        """In a forked child: the claim is the parent's."""
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.leave()
        self._pace = Pace()
        self._waiting = True
        self._wake = None

    async def _until_due(self) -> None:
        wake = self._wake
        assert wake is not None
        while not self._calm() or self._clock() < self._pace.due:
            wake.clear()
            wait = self._pace.due - self._clock()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait if wait > 0 else FIRST_PAUSE):
                    await wake.wait()

    async def _send_oldest(self) -> bool:
        """Send one segment; whether there may be more."""
        self._waiting = False
        claim = self._claim = await _threads.call(self._spool.store.claim)
        if claim is None:
            return False
        try:
            failure = await send_segment(claim, self._send_when_calm, self._spool.tally)
        except OSError:
            self._spool.store.set_aside(claim.name)
            raise
        finally:
            self._claim = None
            _let_go(claim)
        self._waiting = self._waiting or failure is not None
        return failure is None

    async def _send_when_calm(self, batch: Batch) -> Outcome:
        return await self._send(batch) if self._calm() else _NOT_NOW

    def _look_up(self) -> None:
        if self._wake is not None:
            self._wake.set()

    def __repr__(self) -> str:
        return f"<Replay {self._spool!r} sending={self._claim!r}>"


def _let_go(claim: Claim) -> None:
    """Release it where waiting for a write of it that is under way does no harm."""
    try:
        _threads.start(claim.release)
    except RuntimeError:
        claim.release()

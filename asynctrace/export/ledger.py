"""The book of one pipeline: what became of each span, and who waits to hear of it.

Only the host writes in it. Batches are settled in the order in which their spans were queued, so
one number, `settled`, says up to which span everything is known.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType

from .contracts import Undelivered
from .reports import ExporterReport


@dataclass(slots=True, eq=False)
class Flush:
    """Somebody waits until the spans up to `target` are settled."""

    target: int
    exported: int
    failed: int
    dropped: Counter[str]
    spooled: int
    done: asyncio.Future[None] | None = None
    report: ExporterReport | None = None
    beside: Flush | None = None
    """The same flush in the book of the overflow, where there is one."""


@dataclass(slots=True)
class Ledger:
    """Counts of spans that left the queue, and the flushes that wait for them."""

    exported: int = 0
    failed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    spooled: int = 0
    in_flight: int = 0
    retries: int = 0
    last_error: str | None = None
    last_error_time: float | None = None
    last_success_time: float | None = None
    failing: bool = False
    """Whether the last attempt failed. The times do not tell: a clock may be set back."""
    flushes: list[Flush] = field(default_factory=list)
    flushes_begun: int = 0
    closed: bool = False

    @property
    def settled(self) -> int:
        return self.exported + self.failed + self.dropped.total() + self.spooled

    def settle(
        self,
        *,
        exported: int = 0,
        failed: int = 0,
        spooled: int = 0,
        dropped: int = 0,
        reason: str = "",
    ) -> None:
        """Enter what became of the spans in flight and tell the flushes that are complete."""
        if self.closed:
            return
        self.exported += exported
        self.failed += failed
        self.spooled += spooled
        if dropped:
            self.dropped[reason] += dropped
        self.in_flight = 0
        for flush in [flush for flush in self.flushes if flush.target <= self.settled]:
            self.flushes.remove(flush)
            self._complete(flush)

    def note_error(self, failure: Undelivered) -> None:
        """Remember what the last failure was, and when."""
        self.last_error = f"{failure.reason}: {failure.message}".rstrip(": ")
        self.last_error_time = time.time()
        self.failing = True

    def note_answer(self, rejected: int, message: str) -> None:
        """Remember when the receiver last took a batch, and what it complained of."""
        self.last_success_time = time.time()
        self.failing = False
        if rejected or message:
            self.last_error = message or f"{rejected} spans rejected"
            self.last_error_time = self.last_success_time

    def note_retry(self) -> None:
        """Count another attempt for spans that were tried before."""
        self.retries += 1

    def begin_flush(self, target: int, *, since: Flush | None = None) -> Flush:
        """Note a flush of all spans up to the sequence number `target`.

        Its figures count from now on, or from where the flush `since`, which it replaces, began.
        """
        if since is None:
            dropped = Counter(self.dropped)
            flush = Flush(target, self.exported, self.failed, dropped, self.spooled)
        else:
            self.end_flush(since)
            flush = Flush(target, since.exported, since.failed, since.dropped, since.spooled)
        self.flushes_begun += 1
        if target > self.settled:
            flush.done = asyncio.get_running_loop().create_future()
            self.flushes.append(flush)
        else:
            self._complete(flush)
        return flush

    async def finish_flush(self, flush: Flush, timeout: float) -> tuple[ExporterReport, bool]:
        """Wait for a flush; its report, and whether `timeout` (seconds) passed first."""
        timed_out = False
        try:
            if flush.done is not None:
                async with asyncio.timeout(timeout):
                    await flush.done
        except TimeoutError:
            timed_out = True
        finally:
            report = self.end_flush(flush)
        return report, timed_out

    def end_flush(self, flush: Flush) -> ExporterReport:
        """What became of the flush's spans so far; it waits no longer."""
        if flush in self.flushes:
            self.flushes.remove(flush)
        return self._report(flush) if flush.report is None else flush.report

    def next_target(self) -> int | None:
        """Where the next batch must end so that a flush's figures are exact."""
        return min((flush.target for flush in self.flushes), default=None)

    def _complete(self, flush: Flush) -> None:
        # The figures are taken here, not when the waiter wakes: the next batch may be settled then.
        flush.report = self._report(flush)
        if flush.done is not None and not flush.done.done():
            flush.done.set_result(None)

    def _report(self, flush: Flush) -> ExporterReport:
        return ExporterReport(
            exported=self.exported - flush.exported,
            failed=self.failed - flush.failed,
            dropped=MappingProxyType(dict(self.dropped - flush.dropped)),
            spooled=self.spooled - flush.spooled,
            pending=max(0, flush.target - self.settled),
            last_error=self.last_error,
        )

"""All pipelines of one `Tracing`: the sink of its provider.

`on_end` may be called in any thread and in a finalizer, and waits for nothing. A span is encoded
once, in a burst with those that ended before it, and appended to each queue. The pipelines' tasks
run on a host (see `hosting`), and so does everything that flushes; how it ends is in `closing`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

from opentelemetry.sdk.trace import ReadableSpan

from asynctrace.trace.encoding import encode
from asynctrace.trace.sink import Faults

from .closing import Closing
from .contracts import Item, SpanDropReason
from .ended import BURST, Ended
from .host import Host
from .hosting import Change, Hosting
from .ledger import Flush
from .pipeline import Pipeline
from .queue import AtomicCounter
from .reports import ExporterReport
from .scrub import Scrub, scrub_span
from .stall import StallMeter

T = TypeVar("T")


class SyncControl(Protocol):
    """What the SDK's synchronous `force_flush` and `shutdown` of a provider come to."""

    def force_flush(self, timeout: float) -> bool: ...

    def shutdown(self) -> None: ...


class Delivery:
    """The sink of a `TracerProvider`: fans ended spans out to the pipelines."""

    def __init__(self, *, scrub: Scrub | None = None, room: int = 2048, burst: int = BURST) -> None:
        """There is `room` for spans that are not encoded yet; `burst` of them are together."""
        self.pipelines: Sequence[Pipeline] = ()
        self.control: SyncControl | None = None
        self.on_host_lost: Callable[[], None] = _nothing
        self.on_own_host: Callable[[], None] = _nothing
        self._scrub = scrub
        self._burst = burst
        # Until it is opened, nothing can be queued.
        self.stalls = StallMeter()
        self.ended = Ended(
            self._queue_burst, self._refuse_full, room=room, burst=room + 1, stalls=self.stalls
        )
        self.on_end = self.ended.add
        self._early_overflow = AtomicCounter()
        self._opened = False
        self._plain: Pipeline | None = None
        self._faults: dict[str, AtomicCounter] = {}
        self._contain = Faults(self)
        self._hosting = Hosting(
            stalls=self.stalls, changed=self._host_changed, contain=self._contain
        )
        self.call_host = self._hosting.call
        closing = Closing(self._hosting, self.ended, stalls=self.stalls, contain=self._contain)
        self.close = closing.close
        self.cut = closing.cut
        self.expect_exit = closing.expect_exit
        self.export_at_exit = closing.export_at_exit

    # ---- any thread

    def open(self, pipelines: Sequence[Pipeline]) -> None:
        """Take the pipelines into use, on the running loop; queue the spans that ended before."""
        self.pipelines = self._hosting.pipelines = tuple(pipelines)
        if len(self.pipelines) == 1 and self._scrub is None:
            [pipeline] = self.pipelines
            self._plain = None if pipeline.spills or pipeline.needs_spans else pipeline
        self._opened = True
        self._hosting.start()
        self.ended.hand_on()
        for _ in range(self._early_overflow.read()):
            self._refuse_full()

    def _refuse_full(self) -> None:
        if not self._opened:
            self._early_overflow.increment()
        for pipeline in self.pipelines:
            pipeline.queue.refuse(SpanDropReason.QUEUE_FULL)

    def _queue_burst(self, spans: deque[ReadableSpan], number: int) -> None:
        """Encode and queue so many spans, off the left."""
        plain = self._plain
        # The usual case: one exporter that wants bytes. The queue is asked and filled once.
        if plain is not None and (room := plain.queue.room(number)):
            number -= room
            items: list[Item] = []
            try:
                for _ in range(room):
                    span = spans.popleft()
                    try:
                        items.append((span.instrumentation_scope, encode(span), None))
                    except Exception as error:
                        self._contain("encoding", error)
                        plain.queue.refuse(SpanDropReason.ENCODING)
            finally:
                plain.extend(items)
        for _ in range(number):
            self._queue(spans.popleft())

    def _queue(self, span: ReadableSpan) -> None:
        data: bytes | None = None
        for pipeline in self.pipelines:
            if not pipeline.admits():
                continue
            if data is None:
                try:
                    if self._scrub is not None:
                        scrub_span(span, self._scrub, self._contain)
                    data = encode(span)
                except Exception as error:
                    self._contain("encoding", error)
                    pipeline.queue.refuse(SpanDropReason.ENCODING)
                    continue
            pipeline.append(
                (span.instrumentation_scope, data, span if pipeline.needs_spans else None)
            )

    def fault(self, where: str, error: BaseException) -> None:
        """Count an exception that was contained; whoever contained it logs it."""
        del error
        counter = self._faults.get(where) or self._faults.setdefault(where, AtomicCounter())
        counter.increment()

    @property
    def faults(self) -> Mapping[str, int]:
        return {where: counter.read() for where, counter in list(self._faults.items())}

    def force_flush(self, timeout: float) -> bool:
        if self.control is None:
            return not self.ended  # not started yet: nothing can be sent, and nobody waits
        return self.control.force_flush(timeout)

    def must_not_wait(self) -> bool:
        return self.control is not None and self._hosting.is_here()

    def shutdown(self) -> None:
        if self.control:
            self.control.shutdown()

    # ---- the host

    @property
    def host(self) -> Host | None:
        """Where the pipelines run; None when there is no such place at present."""
        return self._hosting.host

    def ensure_host(self) -> Host | None:
        """The host; a daemon thread becomes it when there is none. None if none can be started."""
        return self._hosting.ensure_host()

    def adopt_running_loop(self) -> Host:
        """The running loop becomes the host, because the old one is gone or stands still."""
        return self._hosting.adopt_running_loop()

    def _host_changed(self, change: Change) -> None:
        match change:
            case Change.FOUND:
                self.ended.burst = self._burst
            case Change.OWN:
                self.on_own_host()
            case Change.LEFT | Change.LOST:
                self.ended.burst = 1  # a span by itself calls for the next host
                if change is Change.LOST:
                    self.on_host_lost()

    def begin_flush(self, *, since: Sequence[Flush] = ()) -> list[Flush]:
        """Have all that has ended by now delivered; reports count from here, or `since`."""
        return [
            pipeline.begin_flush(since=before)
            for pipeline, before in zip_longest(self.pipelines, since)
        ]

    async def finish_flush(
        self, flushes: Sequence[Flush], deadline: float
    ) -> tuple[dict[str, ExporterReport], bool]:
        """Wait for a flush; a report per exporter, and whether the deadline passed."""
        results = await asyncio.gather(
            *(
                pipeline.finish_flush(flush, deadline)
                for pipeline, flush in zip(self.pipelines, flushes, strict=True)
            )
        )
        reports = {
            pipeline.name: report
            for pipeline, (report, _) in zip(self.pipelines, results, strict=True)
        }
        return reports, any(timed_out for _, timed_out in results)

    # ---- the process

    def after_fork(self) -> None:
        """In a forked child: start empty and without a host."""
        self._hosting.after_fork()
        self.ended.forget()
        self.ended.burst = 1
        self._faults = {}
        self.stalls.longest = 0.0
        for pipeline in self.pipelines:
            pipeline.forget()

    def __repr__(self) -> str:
        return f"<Delivery {self._hosting!r} pipelines={list(self.pipelines)!r}>"


def _nothing() -> None:
    """Nobody wants to know."""


def run_from_thread(host: Host, work: Coroutine[Any, Any, T], timeout: float) -> T | None:
    """Wait in a plain thread for `work` on the host; None when it takes longer than `timeout`."""
    future = asyncio.run_coroutine_threadsafe(work, host.loop)
    try:
        return future.result(timeout)
    except TimeoutError:
        return None

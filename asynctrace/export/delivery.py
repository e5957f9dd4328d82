"""All pipelines of one `Tracing`, and the host that they run on.

`on_end` may be called in any thread and in a finalizer, and waits for nothing. A span is encoded
once, in a burst with those that ended before it, and appended to each queue. The pipelines' tasks
run on the loop of `init`; when that loop is gone or never was (a fork, a closed loop, a plain
thread), the first accepted span starts a daemon thread with a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan

from asynctrace.trace.encoding import encode
from asynctrace.trace.sink import Faults

from .contracts import SpanDropReason
from .ended import BURST, Ended
from .host import Host
from .ledger import Flush
from .pipeline import CLOSE_GRACE, Pipeline
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
            self._queue, self._refuse_full, room=room, burst=room + 1, stalls=self.stalls
        )
        self.on_end = self.ended.add
        self._early_overflow = AtomicCounter()
        self._opened = False
        self._faults: dict[str, AtomicCounter] = {}
        self._contain = Faults(self)
        self._host: Host | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped: asyncio.Event | None = None
        self._rehosting = threading.Lock()
        self._closing = False

    # ---- any thread

    def open(self, pipelines: Sequence[Pipeline]) -> None:
        """Take the pipelines into use, on the running loop; queue the spans that ended before."""
        self.pipelines = tuple(pipelines)
        self._opened = True
        self.start()
        self.ended.hand_on()
        for _ in range(self._early_overflow.read()):
            self._refuse_full()

    def _refuse_full(self) -> None:
        if not self._opened:
            self._early_overflow.increment()
        for pipeline in self.pipelines:
            pipeline.queue.refuse(SpanDropReason.QUEUE_FULL)

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

    @property
    def host(self) -> Host | None:
        """Where the pipelines run; None when there is no such place at present."""
        host = self._host
        return host if host is not None and host.serving else None

    def force_flush(self, timeout: float) -> bool:
        if self.control is None:
            return not self.ended  # not started yet: nothing can be sent, and nobody waits
        return self.control.force_flush(timeout)

    def must_not_wait(self) -> bool:
        host = self._host
        return self.control is not None and host is not None and host.is_here()

    def shutdown(self) -> None:
        if self.control:
            self.control.shutdown()

    def ensure_host(self) -> Host | None:
        """The host; a daemon thread becomes it when there is none. None if none can be started."""
        # Not a blocking acquire: a finalizer may run while its own thread is in here.
        if self.host is None and self._rehosting.acquire(blocking=False):
            try:
                if self.host is None:
                    self._host = Host.in_thread(self._serve)
                    self.on_own_host()
            except RuntimeError as error:
                self._contain("host", error)
            finally:
                self._rehosting.release()
        return self.host

    def call_host(self) -> None:
        """Have the pipelines look at their queues; what a pipeline calls when a batch is full."""
        if self._closing:
            return  # whoever closes looks at every queue, and needs no new host for it
        host = self._host
        if host is None or not host.post(self._wake_pipelines):
            self.ensure_host()

    # ---- the host

    def adopt_running_loop(self) -> Host:
        """The running loop becomes the host, because the old one is gone or stands still."""
        self._host = Host(asyncio.get_running_loop())
        self.start()
        return self._host

    def start(self) -> None:
        """Start the drain tasks on the running loop, which becomes the host."""
        loop = asyncio.get_running_loop()
        if self._host is None or self._host.loop is not loop:
            self._host = Host(loop)
        for task in self._tasks:
            with suppress(RuntimeError):  # of a loop that stands still, or is closed by now
                task.get_loop().call_soon_threadsafe(task.cancel)
        self._stopped = asyncio.Event()
        self.ended.burst = self._burst
        context = _quiet_context()
        self._tasks = [
            loop.create_task(
                self.stalls.measured(pipeline.run()),
                name=f"asynctrace {pipeline.name}",
                context=context,
            )
            for pipeline in self.pipelines
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

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

    async def close(self, deadline: float, *, retries: bool = True) -> bool:
        """Empty the queues until `deadline`, then cut and count the rest.

        Returns whether the deadline passed first. Ends within two `CLOSE_GRACE` of it.
        """
        settled = await self._drain(deadline, retries=retries)
        await self.cut(SpanDropReason.DEADLINE)
        return not settled

    async def _drain(self, deadline: float, *, retries: bool) -> bool:
        """Admit no more spans and empty the queues until `deadline`; whether they are."""
        self._closing = True
        for pipeline in self.pipelines:
            pipeline.begin_close(deadline, retries=retries)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, deadline - time.monotonic()))
        return all(pipeline.settled for pipeline in self.pipelines)

    async def cut(self, reason: str) -> None:
        """Stop delivering and close: what is not delivered by now is dropped for `reason`.

        Ends within two `CLOSE_GRACE`.
        """
        self._closing = True
        if self._opened:
            self.ended.hand_on()
        late = [task for task in self._tasks if not task.done()]
        for pipeline in self.pipelines:
            pipeline.queue.closed = True
        for task in late:
            task.cancel()
        saving = [asyncio.create_task(self._save(pipeline)) for pipeline in self.pipelines]
        try:
            if ending := [*late, *saving]:
                await asyncio.wait(ending, timeout=1.5 * CLOSE_GRACE)
        finally:
            for task in saving:
                task.cancel()  # a disk that hangs: what it has not taken is dropped
            self.ended.burst = 1  # each span that ends from now on is refused, and counted, at once
            for pipeline in self.pipelines:
                pipeline.close_books(reason)
            if self._stopped is not None:
                self._stopped.set()

    async def _save(self, pipeline: Pipeline) -> None:
        try:
            await pipeline.save()
        except Exception as error:
            self._contain("spool", error)

    async def _serve(self) -> None:
        """The life of a host of our own."""
        self.start()
        assert self._stopped is not None
        await self._stopped.wait()

    def _wake_pipelines(self) -> None:
        for pipeline in self.pipelines:
            pipeline.wake()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._contain("drain task", error)
        if not self._closing and self._host is not None and task in self._tasks:
            # The loop is being closed around us: `asyncio.run` cancels every task at its end.
            self._host = None
            # A span by itself calls for the next host.
            self.ended.burst = 1
            if task.cancelled():
                self.on_host_lost()

    # ---- the process

    def after_fork(self) -> None:
        """In a forked child: start empty and without a host."""
        self._host = None
        self.ended.forget()
        self.ended.burst = 1
        self._tasks = []
        self._stopped = None
        self._rehosting = threading.Lock()
        self._faults = {}
        self.stalls.longest = 0.0
        for pipeline in self.pipelines:
            pipeline.forget()

    def expect_exit(self) -> None:
        """The interpreter exits: spans that end now are queued, and start no host any more."""
        self._closing = True
        for pipeline in self.pipelines:
            pipeline.expect_exit()

    def export_at_exit(self, deadline: float) -> None:
        """Send what is left while the interpreter exits: no loop can be relied upon any more."""
        if self._opened:
            self.ended.hand_on()
        host = self.host
        if host is not None and host.owned:
            closing = self._close_at_exit(deadline)
            future = asyncio.run_coroutine_threadsafe(closing, host.loop)
            try:
                future.result(max(0.0, deadline - time.monotonic()) + 3 * CLOSE_GRACE)
            except Exception as error:
                self._contain("exit", error)
        for pipeline in self.pipelines:
            pipeline.queue.closed = True
            pipeline.export_at_exit(deadline)

    async def _close_at_exit(self, deadline: float) -> None:
        """Like `close`, but what is left because it takes a thread stays in the queue.

        From Python 3.12 on an interpreter that exits starts no thread.
        """
        # One attempt each: nobody waits gladly for a process that has nothing else to do.
        if await self._drain(deadline, retries=False) or not all(t.done() for t in self._tasks):
            await self.cut(SpanDropReason.DEADLINE)

    def __repr__(self) -> str:
        return f"<Delivery host={self._host!r} pipelines={list(self.pipelines)!r}>"


def _nothing() -> None:
    """Nobody wants to know."""


def _quiet_context() -> contextvars.Context:
    """No current span, and our own requests are not traced by anybody's instrumentation."""
    context = contextvars.Context()

    def suppress() -> None:
        with suppress_instrumentation():
            suppressed = otel_context.get_current()
        otel_context.attach(suppressed)

    context.run(suppress)
    return context


def run_from_thread(host: Host, work: Coroutine[Any, Any, T], timeout: float) -> T | None:
    """Wait in a plain thread for `work` on the host; None when it takes longer than `timeout`."""
    future = asyncio.run_coroutine_threadsafe(work, host.loop)
    try:
        return future.result(timeout)
    except TimeoutError:
        return None

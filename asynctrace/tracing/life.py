"""The life of a `Tracing`, from its start to its report."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from asynctrace import _threads
from asynctrace._lifecycle import Lifecycle, State
from asynctrace.config import Config
from asynctrace.context import BaggageAttributes
from asynctrace.context.outcome import end_cancelled
from asynctrace.errors import LifecycleError
from asynctrace.export import process, self_metrics
from asynctrace.export.build import NO_LIMIT, build_exporters, build_pipelines
from asynctrace.export.contracts import Exporter, SpanDropReason
from asynctrace.export.delivery import Delivery
from asynctrace.export.pipeline import CLOSE_GRACE
from asynctrace.export.reports import ExporterReport, FlushReport, ShutdownReport, Statistics
from asynctrace.monitor import LoopMonitor
from asynctrace.propagation import Propagator
from asynctrace.resource import described_by, detect, of_forked_child
from asynctrace.semconv import UNFINISHED
from asynctrace.trace.provider import TracerProvider
from asynctrace.trace.span import Span
from asynctrace.tracing import parts, slot
from asynctrace.tracing.bridge import LATEST, SyncBridge
from asynctrace.tracing.exiting import end_processors

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

logger = logging.getLogger("asynctrace")


class Tracing:
    """A tracing that runs: its provider, the delivery of its spans, and its reports.

    Made by `init`. `force_flush` and `shutdown` may be awaited in any loop.
    """

    def __init__(self, config: Config, options: Mapping[str, object] | None = None) -> None:
        self._config = config
        self._options = options or {}
        self._lifecycle = Lifecycle("tracing")
        resource = described_by(config)
        self._delivery = Delivery(
            scrub=config.scrub, room=config.max_queue_size, burst=parts.burst(config)
        )
        self._provider = parts.provider(config, resource, self._delivery)
        for processor in config.span_processors:
            self._provider.add_span_processor(processor)
        if config.baggage_attributes:
            self._provider.add_span_processor(BaggageAttributes(config.baggage_attributes))
        self._propagator = parts.propagator(config)
        self._report: Future[ShutdownReport] | None = None
        self._closing: asyncio.Task[Any] | None = None
        self._waiting = 0
        self._warned = False
        self._monitor: LoopMonitor | None = None

    # ---- what it is

    @property
    def config(self) -> Config:
        return self._config

    @property
    def options(self) -> Mapping[str, object]:
        """What `init` was given, to start the like in another process."""
        return self._options

    @property
    def state(self) -> State:
        return self._lifecycle.state

    @property
    def tracer_provider(self) -> TracerProvider:
        """A genuine `opentelemetry.sdk.trace.TracerProvider`, for other instrumentations."""
        return self._provider

    @property
    def propagator(self) -> Propagator:
        """The propagator that `OTEL_PROPAGATORS` or the option describes."""
        return self._propagator

    def get_tracer(
        self, name: str, version: str | None = None, schema_url: str | None = None
    ) -> Tracer:
        """The tracer of an instrumentation scope."""
        return self._provider.get_tracer(name, version, schema_url)

    def require_running(self) -> None:
        """Raise LifecycleError, with a hint, unless this is running."""
        self._lifecycle.require(State.RUNNING)

    def open_spans(self) -> tuple[Span, ...]:
        """Spans started and not yet ended; held weakly, at most `max_open_spans`."""
        return self._provider.open_spans()

    def statistics(self) -> Statistics:
        """A snapshot of all figures. Any thread; exact on the host's loop."""
        return Statistics(
            state=self.state.value,
            exporters={
                pipeline.name: pipeline.statistics() for pipeline in self._delivery.pipelines
            },
            open_spans=len(self._provider.open_spans()),
            open_span_overflow=self._provider.open_span_overflow,
            faults=self._delivery.faults,
            loop=None if self._monitor is None else self._monitor.statistics(),
            longest_stall=self._delivery.stalls.longest,
        )

    def healthy(self) -> bool:
        """Whether spans get delivered, as far as is known: for a readiness or status probe.

        True when this is running and, for each exporter, the last attempt to deliver succeeded or
        there was none yet. So one that failed makes it False until a later one succeeds, and a
        service without traffic stays as it is. The service itself works either way: let a probe
        depend on this only where requests that leave no trace are worse than none.

        Any thread; waits for nothing.
        """
        return self.statistics().healthy

    def __repr__(self) -> str:
        name = self._provider.resource.attributes.get("service.name")
        figures = "".join(
            f" [{pipeline.name}: {pipeline.statistics()}]" for pipeline in self._delivery.pipelines
        )
        return f"<Tracing {name!r} {self.state.value}{figures}>"

    # ---- flush and shutdown

    async def force_flush(self, timeout: float | None = None) -> FlushReport:
        """Deliver the spans that have ended before this call.

        Args:
            timeout: Seconds; by default the configured `shutdown_timeout`. The deadline is
                absolute: the call is over then, and what was not delivered is `pending` and stays
                queued.

        A cancelled flush waits no longer; the spans stay queued. After `shutdown` there is nothing
        to flush, and the report is empty.

        Raises:
            LifecycleError: it is still starting; nothing can be sent yet.
            ValueError: `timeout` is negative or not a number.
        """
        started = time.monotonic()
        deadline = started + self._seconds(timeout)
        self._lifecycle.require(State.RUNNING, State.DRAINING, State.CLOSED)
        if self.state is State.CLOSED:
            return FlushReport(exporters={}, timed_out=False, elapsed=0.0)
        try:
            async with asyncio.timeout(deadline + CLOSE_GRACE - time.monotonic()):
                host = self._delivery.ensure_host()
                if host is None:
                    raise TimeoutError
                reports, timed_out = await host.run(self._flush(deadline))
        except TimeoutError:
            # There is no host, or it is another loop that is blocked or stands still.
            reports, timed_out = _pending(self._delivery), True
        elapsed = time.monotonic() - started
        return FlushReport(exporters=reports, timed_out=timed_out, elapsed=elapsed)

    async def shutdown(self, timeout: float | None = None) -> ShutdownReport:
        """End open spans, deliver what is queued until the deadline, close, and say what was.

        Args:
            timeout: Seconds; by default the configured `shutdown_timeout`. The deadline is
                absolute and reaches the request in flight; what has not been delivered by then is
                dropped and counted.

        A second call, also a concurrent one, returns the same report. A cancelled shutdown still
        closes: it stops delivering, counts the rest as dropped, and then lets the cancellation
        through.

        Raises:
            ValueError: `timeout` is negative or not a number.
        """
        started = time.monotonic()
        deadline = started + self._seconds(timeout)
        if self._report is None:
            self._report = Future()
            host = self._delivery.host or self._delivery.adopt_running_loop()
            closing = self._close(deadline, self._report)
            asyncio.run_coroutine_threadsafe(closing, host.loop)
        waiter = asyncio.wrap_future(self._report)
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline + LATEST - time.monotonic()):
                return await asyncio.shield(waiter)
        except TimeoutError:
            # The host is another loop, which is blocked or stands still: nobody else will close.
            return self._conclude(self._report, started, timed_out=True)
        except asyncio.CancelledError:
            if self._waiting == 1 and not waiter.done():
                serving = self._delivery.host
                if serving is not None and serving.post(self._cut_short):
                    await asyncio.wait({waiter})
            raise
        finally:
            self._waiting -= 1

    async def _flush(self, deadline: float) -> tuple[dict[str, ExporterReport], bool]:
        """On the host: also what the user's processors hold back and hand on when flushed."""
        await self._delivery.ended.wait_handed_on(deadline)
        flushes = self._delivery.begin_flush()
        processors_ended = True
        if self._provider.processors.added:
            processors_ended = await self._flush_processors(deadline)
            await self._delivery.ended.wait_handed_on(deadline)
            flushes = self._delivery.begin_flush(since=flushes)
        reports, timed_out = await self._delivery.finish_flush(flushes, deadline)
        return reports, timed_out or not processors_ended

    async def _close(self, deadline: float, report: Future[ShutdownReport]) -> None:
        """On the host: everything that closing is, once; the outcome is put into `report`."""
        if report.done():  # the caller could not wait for this loop any longer
            return
        started = time.monotonic()
        try:
            self._lifecycle.move(State.DRAINING)
        except LifecycleError as error:
            report.set_exception(error)
            return
        self._closing = asyncio.current_task()
        timed_out = True
        unfinished = self._end_open_spans()
        try:
            processors_ended = await self._shutdown_processors(deadline)
            await self._delivery.ended.wait_handed_on(deadline)
            timed_out = await self._delivery.close(deadline) or not processors_ended
        except asyncio.CancelledError:
            # The shutdown was cancelled, or the loop is being torn down: it closes all the same,
            # and the report says what was cut off.
            await self._delivery.cut(SpanDropReason.CANCELLED)
        finally:
            self._conclude(report, started, timed_out=timed_out, unfinished=unfinished)

    def _conclude(
        self,
        report: Future[ShutdownReport],
        started: float,
        *,
        timed_out: bool,
        unfinished: int = 0,
    ) -> ShutdownReport:
        """Close the books; the first to come here decides what the report says."""
        if self._delivery.pipelines:
            self._delivery.ended.hand_on()
        for pipeline in self._delivery.pipelines:
            pipeline.close_books(SpanDropReason.DEADLINE)
        self._release()
        if self.state is State.RUNNING:
            self._lifecycle.move(State.DRAINING)
        if self.state is State.DRAINING:
            self._lifecycle.move(State.CLOSED)
        if not report.done():
            report.set_result(
                ShutdownReport(
                    exporters={p.name: p.report() for p in self._delivery.pipelines},
                    timed_out=timed_out,
                    elapsed=time.monotonic() - started,
                    unfinished=unfinished,
                )
            )
        return report.result()

    def _cut_short(self) -> None:
        """On the host: end a `_close` that is under way."""
        if self._closing is not None and not self._closing.cancelling():
            self._closing.cancel()

    async def _flush_processors(self, deadline: float) -> bool:
        milliseconds = int((deadline - time.monotonic()) * 1000)
        return await self._blocking(deadline, self._provider.processors.force_flush, milliseconds)

    async def _shutdown_processors(self, deadline: float) -> bool:
        """The spans that are queued go out meanwhile: a processor that hangs delays only itself."""
        if self._provider.processors.added and not self._provider._shut_down:
            self._provider._shut_down = True
            self._delivery.begin_flush()
            return await self._blocking(deadline, self._provider.processors.shutdown)
        return True

    async def _blocking(
        self, deadline: float, function: Callable[..., object], *args: object
    ) -> bool:
        """The processors of others block: in a daemon thread, and not past the deadline.

        Whether they ended in time.
        """
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await _threads.call(function, *args)
        except TimeoutError:
            logger.warning("Span processors were late; they go on in a thread of their own.")
            return False
        except Exception as error:
            self._delivery.fault("processors", error)
        return True

    def _end_open_spans(self) -> int:
        end_cancelled(self._provider.open_spans())
        spans = self._provider.open_spans()
        for span in spans:
            span.set_attribute(UNFINISHED, True)
            span.end()
        return len(spans)

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return self._config.shutdown_timeout
        if not timeout >= 0:  # also when it is not a number
            raise ValueError(f"timeout={timeout!r}: give seconds, 0 or more")
        return min(timeout, NO_LIMIT)

    # ---- the start

    async def start(self) -> None:
        """Called once, by `init`."""
        self._lifecycle.move(State.STARTING)
        provider = self._provider
        try:
            if self._config.set_global:
                slot.claim(self)
            pipelines = build_pipelines(
                await self._prepare(),
                self._config,
                resource=lambda: provider.resource,  # and not `self`, which nothing here may keep
                alarm=self._delivery.call_host,
                ended=self._delivery.ended,
                stalls=self._delivery.stalls,
            )
            self._lifecycle.require(State.STARTING)  # and not shut down meanwhile
        except BaseException:
            self._release()
            if self.state is State.STARTING:
                self._lifecycle.move(State.FAILED)
            raise
        self._delivery.open(pipelines)
        self._connect()
        self._watch_loop()
        self._lifecycle.move(State.RUNNING)

    async def _prepare(self) -> list[Exporter]:
        """Build the exporters and find the resource, side by side."""
        detection = asyncio.create_task(detect(self._config), name="asynctrace resource")
        try:
            exporters = await build_exporters(self._config)
            self._provider.set_resource(await detection)
        finally:
            detection.cancel()
            await asyncio.wait({detection})
        return exporters

    def _release(self) -> None:
        """Nothing of the process refers to this any more."""
        process.forget(self)
        self_metrics.of_process().forget(self)
        if self._monitor is not None:
            self._monitor.stop()
        slot.release(self)

    def _watch_loop(self) -> None:
        if not self._config.loop_monitor or self._config.disabled:
            return
        monitor = LoopMonitor(self._provider, threshold=self._config.loop_block_threshold)
        try:
            monitor.start()
        except RuntimeError as error:
            self._delivery.fault("loop_monitor", error)
        else:
            self._monitor = monitor

    def _connect(self) -> None:
        """Let the provider's sync methods, the host and the process reach this, weakly: nothing
        but its owner keeps a `Tracing` alive, so that a forgotten one can be told."""
        self._connect_delivery()
        process.watch(self)
        self_metrics.of_process().watch(self, self._delivery.pipelines, self._provider.open_spans)

    def _connect_delivery(self) -> None:
        self._delivery.control = SyncBridge(self)
        self._delivery.on_host_lost = _weakly(self._on_host_lost)
        self._delivery.on_own_host = _weakly(self._on_own_host)

    # ---- what happens to it

    def after_fork(self) -> None:
        """In a forked child: its own identity, nothing of the parent's spans."""
        own_id = "service.instance.id" not in self._config.resource_attributes
        resource = of_forked_child(self._provider.resource, instance_id_is_ours=own_id)
        self._provider.set_resource(resource)
        self._provider.forget_open_spans()
        self._monitor = None  # its loop and its thread are the parent's
        self._warned = True  # it was not opened here, and is not the child's to close
        self._delivery.after_fork()

    @property
    def idle(self) -> bool:
        """Whether no span waits for its end or its delivery, and no processor may hold one."""
        figures = self.statistics()
        waiting = figures.open_spans + figures.queued + figures.in_flight
        return not (waiting or self._provider.processors.added)

    def at_exit(self, *, since: float, sharing: int) -> None:
        """The process exits and nobody has called `shutdown`: a bounded attempt to deliver."""
        if self.state is not State.RUNNING:
            return
        self._lifecycle.move(State.DRAINING)
        self._delivery.expect_exit()
        self._end_open_spans()
        now = time.monotonic()
        within = max(0.0, since + self._config.shutdown_timeout - now) / sharing
        deadline = now + within
        try:
            # Before our own, as they may hand spans on; half the time is left for those.
            end_processors(self._provider.processors, within=within / 2)
            self._delivery.export_at_exit(deadline)
        except KeyboardInterrupt:
            # Whoever waits for the exit has had enough. There is nobody to catch this: the
            # interpreter would print our frames and go on.
            for pipeline in self._delivery.pipelines:
                pipeline.close_books(SpanDropReason.EXIT)
        self._release()
        self._lifecycle.move(State.CLOSED)
        self._warn_unclosed()  # last of all: where warnings are errors, it raises

    def _on_host_lost(self) -> None:
        if self.state is State.RUNNING:
            self._warn_unclosed()

    def _on_own_host(self) -> None:
        process.finalize_in_child(self)

    def _warn_unclosed(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self!r} was not shut down before its loop or the process ended; await "
                "tracing.shutdown(), or use `async with asynctrace.init()`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __del__(self) -> None:
        """Nobody can shut it down any more. It has spans to deliver, and its tracers may be in use:
        it lives on, as far as they need it, until the process ends."""
        if self.state is State.RUNNING:
            process.keep(self)
            self._connect_delivery()
            self._warn_unclosed()  # last of all: where warnings are errors, it raises


def _pending(delivery: Delivery) -> dict[str, ExporterReport]:
    """Reports of a flush that could not even begin."""
    figures = {pipeline.name: pipeline.statistics() for pipeline in delivery.pipelines}
    return {
        name: ExporterReport(0, 0, {}, pending=now.queued + now.in_flight)
        for name, now in figures.items()
    }


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    reference = weakref.WeakMethod(method)

    def call() -> None:
        found = reference()
        if found is not None:
            found()

    return call

"""OpenTelemetry's own exporters in our pipeline, and the console."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import asynctrace.tracing
from asynctrace.export.adapters import SyncExporterAdapter
from asynctrace.export.console import ConsoleExporter
from asynctrace.export.contracts import Batch, Delivered, Undelivered

EMPTY = Batch([], Resource.get_empty())


class SdkExporter(SpanExporter):
    """Does in `export` what it is told to."""

    def __init__(self, work: Callable[[], SpanExportResult] | None = None) -> None:
        self.work = work or (lambda: SpanExportResult.SUCCESS)
        self.spans: list[ReadableSpan] = []
        self.threads: list[threading.Thread] = []
        self.shutdowns = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.threads.append(threading.current_thread())
        self.spans += spans
        return self.work()

    def shutdown(self) -> None:
        self.shutdowns += 1


async def test_an_sdk_exporter_gets_span_objects() -> None:
    """Through `init`: real spans with their resource, off the event loop, closed at the end."""
    exporter = SdkExporter()
    async with asynctrace.init(service_name="shop", exporter=exporter, set_global=False) as tracing:
        with tracing.get_tracer("t").start_as_current_span("work"):
            pass
        report = await tracing.force_flush()
        assert report.exporters["SdkExporter"].exported == 1
    (span,) = exporter.spans
    assert span.name == "work"
    assert span.resource.attributes["service.name"] == "shop"
    assert threading.main_thread() not in exporter.threads
    assert exporter.shutdowns == 1


async def test_failure_is_final() -> None:
    """The SDK's exporters retry by themselves: what they give up is given up."""
    adapter = SyncExporterAdapter(SdkExporter(lambda: SpanExportResult.FAILURE))
    outcome = await adapter.export(EMPTY, 0.0)
    assert isinstance(outcome, Undelivered)
    assert not outcome.retryable
    assert outcome.reason == "exporter_failure"


async def test_its_own_requests_are_not_traced() -> None:
    """While it exports, instrumentations are told to be quiet."""
    enabled: list[bool] = []

    def look() -> SpanExportResult:
        enabled.append(is_instrumentation_enabled())
        return SpanExportResult.SUCCESS

    assert await SyncExporterAdapter(SdkExporter(look)).export(EMPTY, 0.0) == Delivered()
    assert enabled == [False]


async def test_a_hung_export_is_left_behind_and_not_doubled() -> None:
    """The exporter is not called again before its last call has returned."""
    release = threading.Event()

    def wait() -> SpanExportResult:
        release.wait(10)
        return SpanExportResult.SUCCESS

    exporter = SdkExporter(wait)
    adapter = SyncExporterAdapter(exporter, name="slow")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await adapter.export(EMPTY, 0.0)
    busy = await adapter.export(EMPTY, 0.0)
    assert isinstance(busy, Undelivered)
    assert (busy.reason, busy.retryable) == ("busy", True)
    assert repr(adapter) == "<SyncExporterAdapter slow busy>"
    release.set()
    async with asyncio.timeout(5):
        while await adapter.export(EMPTY, 0.0) != Delivered():
            await asyncio.sleep(0)
    assert len(exporter.threads) == 2


async def test_an_exporter_that_raises_can_be_used_again() -> None:
    """An exception, of any kind, frees it."""

    def fail() -> SpanExportResult:
        raise RuntimeError("broken")

    exporter = SdkExporter(fail)
    adapter = SyncExporterAdapter(exporter)
    with pytest.raises(RuntimeError):
        await adapter.export(EMPTY, 0.0)
    exporter.work = lambda: SpanExportResult.SUCCESS
    assert await adapter.export(EMPTY, 0.0) == Delivered()


async def test_it_is_shut_down_once() -> None:
    """However often the pipeline closes."""
    exporter = SdkExporter()
    adapter = SyncExporterAdapter(exporter)
    await adapter.close()
    await adapter.shutdown()
    await adapter.shutdown()
    assert exporter.shutdowns == 1


def test_the_exit_does_not_trust_it() -> None:
    """At the exit nobody could cut it: its spans are counted, not sent."""
    exporter = SdkExporter()
    adapter = SyncExporterAdapter(exporter)
    adapter.after_fork()
    outcome = adapter.export_at_exit(EMPTY, 0.0)
    assert isinstance(outcome, Undelivered)
    assert exporter.threads == []


async def test_the_console_writes_one_line_per_span() -> None:
    """Each is JSON of its own, and complete when the flush returns."""
    stream = io.StringIO()
    async with asynctrace.init(exporter=ConsoleExporter(stream), set_global=False) as tracing:
        tracer = tracing.get_tracer("t")
        for name in ("first", "second"):
            tracer.start_span(name).end()
        assert await tracing.force_flush()
        names = [json.loads(line)["name"] for line in stream.getvalue().splitlines()]
    assert names == ["first", "second"]


def test_the_console_writes_at_the_exit(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output needs no loop; the stream is looked up when it is written to."""
    exporter = ConsoleExporter()
    exporter.after_fork()
    assert exporter.export_at_exit(EMPTY, 0.0) == Delivered()
    assert capsys.readouterr().out == ""
    assert repr(exporter) == "<ConsoleExporter>"


# ---- slow ones


def sleeps(seconds: float) -> SdkExporter:
    """Takes its time, and succeeds."""

    def work() -> SpanExportResult:
        threading.Event().wait(seconds)
        return SpanExportResult.SUCCESS

    return SdkExporter(work)


async def test_a_slow_exporter_gets_each_span_once() -> None:
    """`timeout` is for one OTLP request; an exporter of the SDK has all of `export_timeout`."""
    exporter = sleeps(0.3)
    async with asynctrace.init(exporter=exporter, timeout=0.1, set_global=False) as tracing:
        tracing.get_tracer("t").start_span("work").end()
        report = await tracing.force_flush(5)
    assert (report.exported, report.failed) == (1, 0)
    assert len(exporter.spans) == 1


async def test_what_outlives_its_deadline_is_not_sent_twice() -> None:
    """Nobody knows whether it arrives: it has failed, and what comes later is sent."""
    release = threading.Event()

    def work() -> SpanExportResult:
        release.wait(10)
        return SpanExportResult.SUCCESS

    exporter = SdkExporter(work)
    options = {"exporter": exporter, "timeout": 0.05, "export_timeout": 0.1, "set_global": False}
    async with asynctrace.init(**options) as tracing:  # type: ignore[arg-type]
        tracer = tracing.get_tracer("t")
        tracer.start_span("first").end()
        report = await tracing.force_flush(5)
        assert (report.exported, report.failed) == (0, 1)
        assert "timeout" in str(report.exporters["SdkExporter"].last_error)
        release.set()
        tracer.start_span("second").end()
    assert [span.name for span in exporter.spans] == ["first", "second"]


async def test_what_a_shutdown_cuts_off_is_not_kept_to_be_sent_again(tmp_path: Path) -> None:
    """A spool would give the same spans to the exporter a second time."""
    release = threading.Event()

    def work() -> SpanExportResult:
        release.wait(10)
        return SpanExportResult.SUCCESS

    exporter = SdkExporter(work)
    options = {"exporter": exporter, "spool": str(tmp_path), "set_global": False}
    tracing = await asynctrace.init(**options)  # type: ignore[arg-type]
    tracing.get_tracer("t").start_span("work").end()
    report = await tracing.shutdown(0.1)
    release.set()
    assert (report.exported, report.spooled) == (0, 0)
    assert report.failed + sum(report.dropped.values()) == 1
    assert len(exporter.spans) == 1


def test_what_a_lost_loop_leaves_in_flight_is_not_sent_again() -> None:
    """The next host takes over the queue, and not the batch that may have arrived."""
    exporter = sleeps(0.2)

    async def begin() -> asynctrace.tracing.Tracing:
        tracing = await asynctrace.init(exporter=exporter, schedule_delay=0.01, set_global=False)
        tracing.get_tracer("t").start_span("first").end()
        while not exporter.spans:
            await asyncio.sleep(0.001)
        return tracing

    with pytest.warns(ResourceWarning):
        tracing = asyncio.run(begin())
    tracing.get_tracer("t").start_span("second").end()
    report = asyncio.run(tracing.shutdown(5))
    assert sorted(span.name for span in exporter.spans) == ["first", "second"]
    assert (report.exported, report.failed) == (1, 1)


async def test_its_own_time_out_is_its_own_failure() -> None:
    """An exporter that raises TimeoutError is not one that we cut off: it is not tried again."""

    def fail() -> SpanExportResult:
        raise TimeoutError("theirs")

    exporter = SdkExporter(fail)
    async with asynctrace.init(exporter=exporter, set_global=False) as tracing:
        tracing.get_tracer("t").start_span("work").end()
        report = await tracing.force_flush(5)
        assert report.failed == 1
        error = str(report.exporters["SdkExporter"].last_error)
        assert error == "exporter_error: TimeoutError('theirs')"
    assert len(exporter.spans) == 1

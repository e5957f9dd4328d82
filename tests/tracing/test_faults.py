"""Collectors that are absent, refuse, are silent or die: the service goes on, the figures are true.

Every collector here is a real socket. What a report says was exported is compared, span by span,
with what the collector took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynctrace.export import otlp_http  # noqa: F401  # is there before `init`, which is most usual
from asynctrace.initialization import init
from asynctrace.tracing import ShutdownReport, Tracing
from tests.support.collector import Answer, ScriptedCollector, partial_success, refusing_port
from tests.support.heartbeat import SteadyHeartbeat
from tests.support.programs import run_program_async
from tests.support.stopwatch import in_time

TIMEOUT = 2.0


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


class Service:
    """Ends spans all the time, as a service under load does, and remembers their ids."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracer = tracing.get_tracer("service")
        self.ended: list[str] = []
        self._working = True
        self._task = asyncio.create_task(self._work())

    def request(self) -> None:
        with self._tracer.start_as_current_span("request") as span:
            self.ended.append(f"{span.get_span_context().span_id:016x}")

    async def _work(self) -> None:
        while self._working:
            self.request()
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        self._working = False
        await self._task


def everything_is_counted(report: ShutdownReport, service: Service) -> None:
    """Each span of the service is exported, failed or dropped; none is pending."""
    assert report.pending == 0
    assert report.exported + report.failed + sum(report.dropped.values()) == len(service.ended)


def fast(url: str, **options: object) -> dict[str, object]:
    """A service whose batches go out often."""
    return {
        "service_name": "shop",
        "endpoint": url,
        "set_global": False,
        "schedule_delay": 0.02,
        "max_export_batch_size": 16,
        **options,
    }


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "asynctrace"]


# ---- health


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
async def test_a_healthy_collector_gets_every_span_once(
    protocol: str,
    compression: str,
    collector: ScriptedCollector,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In each encoding; the report is true and nothing is logged."""
    options = fast(collector.url, protocol=protocol, compression=compression)
    tracing = await init(**options)  # type: ignore[arg-type]
    service = Service(tracing)
    while len(service.ended) < 50:
        await asyncio.sleep(0.01)
    await service.stop()
    report = await tracing.shutdown(TIMEOUT)
    assert report
    assert report.exported == len(service.ended)
    assert sorted(collector.span_ids) == sorted(service.ended)
    assert {span.resource.attributes["service.name"] for span in collector.spans} == {"shop"}
    assert warnings_of(caplog) == []


async def test_the_loop_never_stands_still(collector: ScriptedCollector) -> None:
    """Start, load, flush and shutdown against a healthy collector, aiohttp imported before."""
    async with SteadyHeartbeat():
        tracing = await init(**fast(collector.url))  # type: ignore[arg-type]
        service = Service(tracing)
        await asyncio.sleep(0.1)
        await service.stop()
        assert await tracing.force_flush(TIMEOUT)
        assert await tracing.shutdown(TIMEOUT)
    assert set(service.ended) <= set(collector.span_ids)


IMPORTED_BY_INIT = """
    import asyncio, sys
    from asynctrace import init
    from tests.support.heartbeat import Heartbeat, LONGEST_GAP

    async def main():
        async with Heartbeat() as heart:
            assert "aiohttp" not in sys.modules
            tracing = await init(endpoint=sys.argv[1])
            assert "aiohttp" in sys.modules
            tracing.get_tracer("t").start_span("work").end()
            assert await tracing.shutdown(5.0)
        assert sys.argv[2] == "first" or heart.longest < LONGEST_GAP, heart.longest

    asyncio.run(main())
"""


async def test_the_start_imports_aiohttp_without_stopping_the_loop(
    collector: ScriptedCollector, tmp_path: Path
) -> None:
    """Where aiohttp is new to the process, `init` imports it in a thread.

    The second time: to compile a module, which is done once, takes the interpreter lock for long.
    """
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    for turn in ("first", "second"):
        ended = await run_program_async(IMPORTED_BY_INIT, collector.url, turn, **compiled)
        assert ended.code == 0, ended.err
    assert len(collector.spans) == 2


# ---- faults


async def serve_through(url: str, timeout: float) -> ShutdownReport:
    """The life of a service whose collector is bad: in time, and every span is counted."""
    async with SteadyHeartbeat():
        tracing = await init(**fast(url))  # type: ignore[arg-type]
        service = Service(tracing)
        await asyncio.sleep(0.05)
        with in_time(0.1):
            report = await tracing.force_flush(0.1)
        assert not report
        assert report.exported == 0
        await service.stop()
        with in_time(timeout):
            closed = await tracing.shutdown(timeout)
    assert not closed
    everything_is_counted(closed, service)
    return closed


async def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """Connections are refused: one line with a hint, every span counted, no stall."""
    with refusing_port() as port:
        report = await serve_through(f"http://127.0.0.1:{port}", TIMEOUT)
    assert report.exported == 0
    (line,) = warnings_of(caplog)
    assert "unreachable" in line
    assert "is a collector listening there? OTEL_EXPORTER_OTLP_ENDPOINT" in line


BAD = {
    "silent": (Answer(silent=True), TIMEOUT),
    "hangs in the body": (Answer(body_hangs=True), 0.5),
    "cuts": (Answer(cut=True), 0.5),
    "cuts in the request": (Answer(cut_early=True), 0.5),
    "garbage": (Answer(raw=b"\x00\xff\x00 not HTTP at all \r\n\r\n"), 0.5),
    "unavailable": (Answer(status=503), 0.5),
    "throttles": (Answer(status=429, headers={"Retry-After": "1"}), 0.5),
}


@pytest.mark.parametrize("fault", BAD)
async def test_a_collector_that_is_bad_from_the_start(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its fault: in time, no stall, every span counted, one line in the log."""
    answer, timeout = BAD[fault]
    with ScriptedCollector(then=answer) as collector:
        report = await serve_through(collector.url, timeout)
        assert report.exported == 0 == len(collector.spans)
    (line,) = warnings_of(caplog)
    assert line.startswith("Spans cannot be delivered by otlp: ")
    assert "Hint: " in line


async def test_a_collector_that_answers_slowly_delays_nobody() -> None:
    """Each answer takes a while; all spans arrive, the loop runs on."""
    with ScriptedCollector(then=Answer(delay=0.05)) as collector:
        async with SteadyHeartbeat():
            tracing = await init(**fast(collector.url))  # type: ignore[arg-type]
            service = Service(tracing)
            await asyncio.sleep(0.15)
            await service.stop()
            assert await tracing.shutdown(TIMEOUT)
        assert sorted(collector.span_ids) == sorted(service.ended)


async def test_a_collector_that_dies_and_comes_back(
    collector: ScriptedCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """The report says exactly which spans arrived: those that the collector has, none else."""
    tracing = await init(**fast(collector.url, max_queue_size=100_000))  # type: ignore[arg-type]
    service = Service(tracing)
    await asyncio.to_thread(collector.wait_for_spans, 20)
    await asyncio.to_thread(collector.stop)
    async with asyncio.timeout(10):
        while not warnings_of(caplog):
            await asyncio.sleep(0.01)
    taken = len(collector.spans)
    collector.start()
    await tracing.force_flush(TIMEOUT)
    await asyncio.to_thread(collector.wait_for_spans, taken + 20)
    await service.stop()
    report = await tracing.shutdown(TIMEOUT)
    everything_is_counted(report, service)
    assert report
    assert sorted(set(collector.span_ids)) == sorted(service.ended)
    first, second = warnings_of(caplog)
    assert first.startswith("Spans cannot be delivered by otlp: unreachable")
    assert second.startswith("otlp delivers again after ")
    assert second.endswith("; 0 spans were lost.")


async def test_a_collector_that_dies_for_good(
    collector: ScriptedCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """What it had taken is exported, the rest is counted as lost, in time."""
    tracing = await init(**fast(collector.url))  # type: ignore[arg-type]
    service = Service(tracing)
    await asyncio.to_thread(collector.wait_for_spans, 20)
    await asyncio.to_thread(collector.stop)
    await asyncio.sleep(0.05)
    await service.stop()
    with in_time(TIMEOUT):
        report = await tracing.shutdown(TIMEOUT)
    assert not report
    everything_is_counted(report, service)
    assert report.exported == len(collector.spans)
    assert set(collector.span_ids) <= set(service.ended)
    assert len(warnings_of(caplog)) == 1


async def test_refused_batches_are_counted_with_the_servers_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A permanent failure is not retried, and its message is kept."""
    refusal = Answer(status=400, headers={"Content-Type": "text/plain"}, body=b"no such tenant")
    with ScriptedCollector(refusal) as collector:
        tracing = await init(**fast(collector.url, schedule_delay=60))  # type: ignore[arg-type]
        service = Service(tracing)
        service.request()
        await service.stop()
        first = await tracing.force_flush(TIMEOUT)
        assert first.failed == len(service.ended)
        assert first.exporters["otlp"].last_error == "http_400: no such tenant"
        assert len(collector.requests) == 1
        service.request()
        assert (await tracing.shutdown(TIMEOUT)).exported == 1
    assert "no such tenant" in warnings_of(caplog)[0]


async def test_partial_success_is_believed(caplog: pytest.LogCaptureFixture) -> None:
    """What the receiver rejected has failed; its message is logged once."""
    with ScriptedCollector(partial_success(1, "too old"), partial_success(1, "too old")) as it:
        tracing = await init(**fast(it.url, max_export_batch_size=4))  # type: ignore[arg-type]
        service = Service(tracing)
        for _ in range(11):
            service.request()
        await service.stop()
        report = await tracing.shutdown(TIMEOUT)
    assert report.failed == 2
    assert report.exported == len(service.ended) - 2
    assert warnings_of(caplog) == ["The receiver of otlp rejected 1 spans: too old"]


async def test_retry_after_is_respected() -> None:
    """Both forms; the batch arrives once."""
    from email.utils import formatdate

    past = formatdate(time.time() - 10, usegmt=True)
    busy = [
        Answer(status=429, headers={"Retry-After": "0"}),
        Answer(status=503, headers={"Retry-After": past}),
        Answer(status=429, headers={"Retry-After": "soon, perhaps"}),
    ]
    with ScriptedCollector(*busy) as collector:
        tracing = await init(**fast(collector.url))  # type: ignore[arg-type]
        tracing.get_tracer("t").start_span("work").end()
        report = await tracing.force_flush(5)
        assert report.exported == 1
        assert tracing.statistics().exporters["otlp"].retries == 3
        assert len(collector.requests) == 4
        assert len(collector.spans) == 1
        await tracing.shutdown()

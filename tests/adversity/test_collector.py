"""A collector that answers oddly: limits, throttling, redirects, answers that are none."""

from __future__ import annotations

import asyncio
import time

import pytest

from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.adversity.scene import GrpcCollector
from tests.support.collector import Answer, Request, ScriptedCollector
from tests.support.heartbeat import SteadyHeartbeat

pytestmark = pytest.mark.slow  # each waits for real deadlines

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def end_spans(tracing: Tracing, number: int, *, size: int = 0) -> list[str]:
    tracer = tracing.get_tracer("service")
    ids = []
    for _ in range(number):
        with tracer.start_as_current_span("request", attributes={"ballast": "x" * size}) as span:
            ids.append(f"{span.get_span_context().span_id:016x}")
    return ids


class LimitedCollector(ScriptedCollector):
    """Takes requests of so many bytes, and answers 413 to larger ones."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def judged(self, request: Request) -> Answer:
        too_large = len(request.body) > self.limit
        return Answer(status=413, body=b"request too large") if too_large else request.answer


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_requests_shrink_to_what_the_collector_takes(protocol: str) -> None:
    """Every span arrives once, but for the one that no request can hold."""
    kind = GrpcCollector if protocol == "grpc" else LimitedCollector
    with kind(20_000) as collector:
        async with init(endpoint=collector.url, protocol=protocol, set_global=False) as tracing:
            ids = end_spans(tracing, 100, size=300)
            giant = end_spans(tracing, 1, size=30_000)
            ids += end_spans(tracing, 100, size=300)
            report = await tracing.force_flush(5)
            figures = tracing.statistics().exporters["otlp"]
        assert sorted(collector.span_ids) == sorted(ids)
        assert not set(giant) & set(collector.span_ids)
    assert report.exported == 200
    assert report.dropped == {"too_large": 1}
    assert figures.last_error in {
        "http_413: request too large",
        "grpc_resource_exhausted: received message larger than max",
    }


async def test_throttling_holds_between_batches() -> None:
    """Nothing is sent before the collector wants it, a flush or not; then everything."""
    busy = Answer(status=429, headers={"Retry-After": "1"})
    with ScriptedCollector(busy) as collector:
        async with init(
            endpoint=collector.url, set_global=False, max_export_batch_size=10, export_timeout=0.5
        ) as tracing:
            begun = time.monotonic()
            ids = end_spans(tracing, 30)
            report = await tracing.force_flush(0.2)
            assert report.pending == 30
            await tracing.force_flush(0.1)
            assert len(collector.requests) == 1
            assert tracing.statistics().exporters["otlp"].circuit == "open"
            report = await tracing.force_flush(5)
            assert time.monotonic() - begun > 0.9
            assert report.exported == 30
        assert sorted(collector.span_ids) == sorted(ids)


ODD = {
    "redirect": Answer(status=307, headers={"Location": "http://127.0.0.1:9/v1/traces"}),
    "oversized refusal": Answer(status=400, body=b"no " * 200_000),
    "garbage status": Answer(status=400, headers=PROTOBUF, body=b"\xff\xff\xff"),
    "html": Answer(status=404, headers={"Content-Type": "text/html"}, body=b"<h1>Nope</h1>"),
    "not JSON": Answer(status=400, headers={"Content-Type": "application/json"}, body=b"{nope"),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
async def test_odd_refusals_are_counted(answer: Answer) -> None:
    """One request, one line, no stall; the next batch goes its way."""
    with ScriptedCollector(answer) as collector:
        async with SteadyHeartbeat(), init(endpoint=collector.url, set_global=False) as tracing:
            end_spans(tracing, 5)
            first = await tracing.force_flush(2)
            ids = end_spans(tracing, 5)
            second = await tracing.force_flush(2)
        assert (first.failed, second.exported) == (5, 5)
        assert len(collector.requests) == 2
        assert sorted(collector.span_ids) == sorted(ids)


TAKEN = {
    "oversized": Answer(headers=PROTOBUF, body=b"\0" * 500_000),
    "garbage": Answer(headers=PROTOBUF, body=b"\xff\xff\xff"),
    "wrong type": Answer(headers={"Content-Type": "image/png"}, body=b"\x89PNG"),
    "no content": Answer(status=204),
}


@pytest.mark.parametrize("answer", TAKEN.values(), ids=TAKEN)
async def test_odd_acceptances_are_deliveries(answer: Answer) -> None:
    """The collector has said yes; sending again would deliver twice."""
    with ScriptedCollector(then=answer) as collector:
        async with SteadyHeartbeat(), init(endpoint=collector.url, set_global=False) as tracing:
            ids = end_spans(tracing, 5)
            assert (await tracing.force_flush(2)).exported == 5
        assert collector.span_ids == ids


async def test_a_slow_reader_holds_up_nobody() -> None:
    """It gets a large request as fast as it reads; the loop goes on, and all of it arrives."""
    with ScriptedCollector(then=Answer(reads_slowly=True)) as collector:
        async with SteadyHeartbeat(), init(endpoint=collector.url, set_global=False) as tracing:
            ids = end_spans(tracing, 8, size=2**20)
            report = await tracing.force_flush(20)
        assert report.exported == 8
        assert sorted(collector.span_ids) == sorted(ids)


async def test_an_answer_that_breaks_off_is_no_delivery() -> None:
    """Headers that say yes and a body that never comes: sent again, and reported once."""
    with ScriptedCollector(Answer(body_hangs=True), Answer(raw=b"HTTP/1.1 200 OK\r\nCont")) as it:
        async with init(endpoint=it.url, set_global=False, timeout=0.1) as tracing:
            ids = end_spans(tracing, 5)
            report = await tracing.force_flush(10)
            await asyncio.sleep(0)
        assert report.exported == 5
        assert it.span_ids == ids

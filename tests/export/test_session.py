"""A session of the user's: used, and left as it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import aiohttp
import pytest

import asynctrace
from asynctrace.export.contracts import Delivered, Undelivered
from asynctrace.export.otlp_http import Endpoint, OtlpHttpExporter
from tests.support.batches import batch
from tests.support.collector import Answer, ScriptedCollector


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


def soon() -> float:
    return time.monotonic() + 5


def sender(collector: ScriptedCollector, session: aiohttp.ClientSession) -> OtlpHttpExporter:
    return OtlpHttpExporter(Endpoint(url=collector.url, headers={}), None, session=session)


async def test_the_session_is_used_and_never_closed(collector: ScriptedCollector) -> None:
    """Its headers and its connections serve; after the shutdown it is still open."""
    async with aiohttp.ClientSession(headers={"x-mesh": "1"}) as session:
        async with asynctrace.init(
            endpoint=collector.url, session=session, set_global=False
        ) as tracing:
            tracing.get_tracer("test").start_span("work").end()
        assert not session.closed
        async with session.post(collector.url, data=b"") as response:
            assert response.status == 200
    first, second = collector.requests
    assert first.headers["x-mesh"] == second.headers["x-mesh"] == "1"
    assert [span.name for span in first.spans] == ["work"]
    assert collector.connections == 1


async def test_other_defaults_of_the_session_do_not_count(collector: ScriptedCollector) -> None:
    """One that raises for statuses and is impatient changes nothing about delivery."""
    collector.then(Answer(status=503, delay=0.05))
    timeout = aiohttp.ClientTimeout(total=0.01)
    async with aiohttp.ClientSession(raise_for_status=True, timeout=timeout) as session:
        exporter = sender(collector, session)
        outcome = await exporter.export(batch(), soon())
        await exporter.close()
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "http_503"


async def test_a_session_that_was_closed_is_replaced_by_our_own(
    collector: ScriptedCollector,
) -> None:
    """Whoever closes it too early loses no span; ours is closed with the exporter."""
    async with aiohttp.ClientSession(headers={"x-mesh": "1"}) as session:
        exporter = sender(collector, session)
    assert await exporter.export(batch(), soon()) == Delivered()
    await exporter.close()
    assert "x-mesh" not in collector.requests[0].headers


@pytest.mark.parametrize("event", ["another loop", "a fork"])
async def test_elsewhere_another_session_is_used(event: str, collector: ScriptedCollector) -> None:
    """A session belongs to its loop and its process."""
    async with aiohttp.ClientSession(headers={"x-mesh": "1"}) as session:
        exporter = sender(collector, session)

        async def export() -> None:
            assert await exporter.export(batch(), soon()) == Delivered()
            await exporter.close()

        if event == "a fork":
            exporter.after_fork()
            await export()
        else:
            await asyncio.to_thread(asyncio.run, export())
        assert not session.closed
    assert "x-mesh" not in collector.requests[0].headers

"""A question for a probe: do spans get delivered?"""

from __future__ import annotations

import asyncio

import pytest

import asynctrace
from asynctrace.testing import InMemoryExporter
from tests.support.collector import Answer, ScriptedCollector


async def test_health_follows_the_last_attempt(caplog: pytest.LogCaptureFixture) -> None:
    """Healthy from the start, not while the collector refuses, and again when it is back."""
    with ScriptedCollector() as collector:
        async with asynctrace.init(
            exporter=["otlp", InMemoryExporter()], endpoint=collector.url, set_global=False
        ) as tracing:

            async def deliver() -> bool:
                tracing.get_tracer("test").start_span("work").end()
                await tracing.force_flush()
                return tracing.healthy()

            assert tracing.healthy()
            assert await deliver()
            collector.then(Answer(status=400, body=b"not today"))
            assert not await deliver()
            assert not await asyncio.to_thread(tracing.healthy)
            assert "last_error='http_400: not today'" in repr(tracing)
            collector.then(Answer())
            assert await deliver()
            assert "last_error" not in repr(tracing)
        assert not tracing.healthy()
    began, ended = (record.getMessage() for record in caplog.records)
    assert began.startswith("Spans cannot be delivered by otlp: http_400 (not today)")
    assert "1 failed attempts; 1 spans were lost" in ended

"""Sending what waits in a directory, once, from a process that does nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asynctrace.export.spool.sending import send_directory
from asynctrace.export.spool.store import Store
from tests.support.batches import batch
from tests.support.collector import Answer, ScriptedCollector

BUSY = Answer(status=429, headers={"Retry-After": "0"})


def fill(directory: Path, spans: int) -> None:
    """As much as that in segments of their own."""
    for _ in range(spans):
        store = Store(directory, exporter="otlp", max_bytes=2**20)
        store.append(batch(1).to_otlp(), 1)
        store.seal()


def test_segment_by_segment_until_nothing_is_left(tmp_path: Path) -> None:
    """A collector that asks for time gets it; what somebody else writes is left to them."""
    fill(tmp_path, 2)
    writing = Store(tmp_path, exporter="otlp", max_bytes=2**20)
    writing.append(batch(1).to_otlp(), 1)
    with ScriptedCollector(BUSY) as collector:
        sent = asyncio.run(send_directory(tmp_path, exporter="otlp", endpoint=collector.url))
        assert len(collector.requests) == 3
        assert len(collector.spans) == 2
    assert (sent.tally.replayed, sent.in_use, sent.failure) == (2, 1, None)
    writing.seal()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=429, headers={"Retry-After": "3600"}), "http_429"),
        (Answer(silent=True), "timeout"),
    ],
    ids=["wants an hour", "is silent"],
)
def test_a_collector_that_takes_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, reason: str
) -> None:
    """At the first failure, with its reason; everything stays, and nobody's lock is kept."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
    fill(tmp_path, 2)
    with ScriptedCollector(then=answer) as collector:
        sent = asyncio.run(send_directory(tmp_path, exporter="otlp", endpoint=collector.url))
        assert len(collector.requests) == 1
    assert sent.failure is not None
    assert sent.failure.reason == reason
    assert len(list(tmp_path.iterdir())) == 2
    assert Store(tmp_path, exporter="otlp", max_bytes=2**20).claim() is not None

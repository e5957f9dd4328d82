"""The exporter for tests of traced programs."""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource

from asynctrace.export.contracts import Batch, Delivered, Exporter
from asynctrace.initialization import init
from asynctrace.testing import InMemoryExporter


async def test_it_keeps_what_a_collector_would_have_read() -> None:
    """In the order of their ends, to be asked for by name, and to be forgotten."""
    exporter = InMemoryExporter()
    assert isinstance(exporter, Exporter)
    async with init(exporter=exporter, set_global=False) as running:
        for name in ("a", "b", "a"):
            running.get_tracer("t").start_span(name).end()
    assert [span.name for span in exporter.spans] == ["a", "b", "a"]
    assert len(exporter.named("a")) == 2
    assert repr(exporter) == "<InMemoryExporter 3 spans>"
    exporter.clear()
    assert exporter.spans == []


def test_it_keeps_nothing_of_the_parent_in_a_forked_child() -> None:
    """And takes what is sent at the exit."""
    exporter = InMemoryExporter(name="mine")
    assert exporter.name == "mine"
    assert exporter.export_at_exit(Batch([], Resource.get_empty()), 0.0) == Delivered()
    exporter.after_fork()
    assert exporter.spans == []

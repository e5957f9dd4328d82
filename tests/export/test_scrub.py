"""`init(scrub=callback)`: the last look at what leaves the process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

import asynctrace.tracing
from asynctrace.otlp.records import SpanRecord
from asynctrace.testing import InMemoryExporter
from asynctrace.trace.span import Span

SECRET = "hunter2"


async def scrubbed(scrub: Callable[[str, Any], Any], fill: Callable[[Span], None]) -> SpanRecord:
    """A span that went through the real pipeline, as a collector would read it."""
    exporter = InMemoryExporter()
    async with asynctrace.init(exporter=exporter, scrub=scrub, set_global=False) as tracing:
        link = Link(SpanContext(1, 2, True, TraceFlags(1)), {"link.key": SECRET})
        span = tracing.get_tracer("t").start_span("work", links=[link])
        assert isinstance(span, Span)
        fill(span)
        span.end()
        await tracing.force_flush()
    (record,) = exporter.spans
    return record


def fill_everything(span: Span) -> None:
    """The secret in every place that text can be in."""
    span.set_attribute("plain", SECRET)
    span.set_attribute("several", [SECRET, "b"])
    span.add_event("said " + SECRET, {"event.key": SECRET})
    span.record_exception(ValueError(SECRET))
    span.set_status(Status(StatusCode.ERROR, "because " + SECRET))


async def test_every_text_passes_the_callback() -> None:
    """Attributes, events and their names, exception text and stack, links, status description."""

    def mask(key: str, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [mask(key, one) for one in value]
        return value.replace(SECRET, "***") if isinstance(value, str) else value

    record = await scrubbed(mask, fill_everything)
    assert SECRET not in repr(record)
    assert record.attributes["plain"] == "***"
    assert record.attributes["several"] == ("***", "b")
    said, exception = record.events
    assert (said.name, said.attributes["event.key"]) == ("said ***", "***")
    assert exception.attributes["exception.message"] == "***"
    assert "ValueError: ***" in str(exception.attributes["exception.stacktrace"])
    assert record.links[0].attributes == {"link.key": "***"}
    assert record.status_message == "because ***"
    assert record.status_code == 2


async def test_each_text_comes_with_its_key() -> None:
    """The callback can tell them apart; the two that have no key of their own get one."""
    seen: list[str] = []

    def note(key: str, value: Any) -> Any:
        seen.append(key)
        return value

    await scrubbed(note, fill_everything)
    assert set(seen) == {
        "plain",
        "several",
        "event.name",
        "event.key",
        "exception.type",
        "exception.message",
        "exception.stacktrace",
        "exception.escaped",
        "link.key",
        "otel.status_description",
    }


async def test_none_leaves_it_out() -> None:
    """An attribute, an event, a description for which it answers None does not go out."""
    record = await scrubbed(lambda key, value: None, fill_everything)
    assert record.attributes == {}
    assert record.events == ()
    assert record.links[0].attributes == {}
    assert (record.status_code, record.status_message) == (2, "")


async def test_a_scrub_that_raises_lets_nothing_out(caplog: pytest.LogCaptureFixture) -> None:
    """It fails closed: the text is replaced, the faults are counted, one line is logged."""

    def broken(key: str, value: Any) -> Any:
        raise RuntimeError("no pattern")

    exporter = InMemoryExporter()
    async with asynctrace.init(exporter=exporter, scrub=broken, set_global=False) as tracing:
        span = tracing.get_tracer("t").start_span("work", attributes={"a": SECRET, "b": SECRET})
        span.add_event("e", {"c": SECRET})
        span.set_status(Status(StatusCode.ERROR, SECRET))
        span.end()
        await tracing.force_flush()
        assert tracing.statistics().faults == {"scrub": 5}
    (record,) = exporter.spans
    assert SECRET not in repr(record)
    assert record.attributes == {"a": "[scrub failed]", "b": "[scrub failed]"}
    assert record.status_message == "[scrub failed]"
    assert [r.levelname for r in caplog.records if r.levelno >= logging.WARNING] == ["WARNING"]


async def test_a_scrub_that_answers_nonsense_costs_no_span() -> None:
    """What cannot be sent is treated as any value of a wrong type; the span arrives."""
    record = await scrubbed(lambda key, value: object(), fill_everything)
    assert record.name == "work"
    assert SECRET not in repr(record)


async def test_counts_of_what_was_dropped_survive() -> None:
    """Scrubbing an event makes a new one; what its limits had dropped is still told."""
    from opentelemetry.sdk.trace import SpanLimits

    exporter = InMemoryExporter()
    async with asynctrace.init(
        exporter=exporter,
        scrub=lambda key, value: value,
        span_limits=SpanLimits(max_event_attributes=1),
        set_global=False,
    ) as tracing:
        span = tracing.get_tracer("t").start_span("work")
        span.add_event("e", {"a": 1, "b": 2, "c": 3})
        span.end()
    (record,) = exporter.spans
    assert len(record.events[0].attributes) == 1
    assert record.events[0].dropped_attributes == 2


async def test_it_comes_after_the_processors() -> None:
    """What a processor adds at the end is seen, too."""
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    class Late(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            assert isinstance(span, Span)
            span._attributes["late"] = SECRET

    exporter = InMemoryExporter()
    async with asynctrace.init(
        exporter=exporter,
        scrub=lambda key, value: "***",
        span_processors=[Late()],
        set_global=False,
    ) as tracing:
        tracing.get_tracer("t").start_span("work").end()
    assert exporter.spans[0].attributes == {"late": "***"}

"""The user's span processors: their order, their hooks, and what happens when one raises."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.trace.recording import Sink, Traced, message


class Noting(SpanProcessor):
    """Notes every call in a list that several may share."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.notes.append(f"{self.name} start")

    def _on_ending(self, span: Any) -> None:
        self.notes.append(f"{self.name} ending")

    def on_end(self, span: ReadableSpan) -> None:
        self.notes.append(f"{self.name} end")

    def shutdown(self) -> None:
        self.notes.append(f"{self.name} shutdown")

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.notes.append(f"{self.name} flush")
        return True


class Raising(SpanProcessor):
    """Raises in every hook."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def _raise(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error

    on_start = _on_ending = on_end = shutdown = force_flush = _raise


class NotingSink(Sink):
    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes

    def on_end(self, span: Any) -> None:
        self.notes.append("sink end")

    def must_not_wait(self) -> bool:
        return False

    def force_flush(self, timeout: float) -> bool:
        self.notes.append("sink flush")
        return True

    def shutdown(self) -> None:
        self.notes.append("sink shutdown")


def test_processors_are_called_in_order_and_the_sink_last_of_all() -> None:
    """Also when one is added after spans were started."""
    notes: list[str] = []
    traced = Traced(sink=NotingSink(notes))
    traced.provider.add_span_processor(Noting("a", notes))
    span = traced.span()
    traced.provider.add_span_processor(Noting("b", notes))
    span.end()
    assert notes == ["a start", "a ending", "b ending", "a end", "b end", "sink end"]
    del notes[:]
    assert traced.provider.force_flush() is True
    traced.provider.processors.shutdown()
    traced.provider.shutdown()
    assert notes == [
        *("a flush", "b flush", "sink flush"),
        *("a shutdown", "b shutdown", "sink shutdown"),
    ]


@pytest.mark.parametrize(
    "replacement", [{"clean": 1}, BoundedAttributes(attributes={"clean": 1})], ids=["dict", "sdk"]
)
def test_what_a_processor_leaves_is_what_the_sink_gets(replacement: Any) -> None:
    """The scrubbing processor of everybody's service, as it is written for the SDK."""

    class Scrub(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            span._attributes = replacement
            span._name = "scrubbed"
            span._events = [event for event in span._events if event.name != "secret"]

    traced = Traced()
    traced.provider.add_span_processor(Scrub())
    span = traced.span("n", attributes={"password": "x"})
    span.add_event("secret")
    span.add_event("public")
    span.end()
    told = message(traced.sink.spans[0])
    assert [pair.key for pair in told.attributes] == ["clean"]
    assert told.name == "scrubbed"
    assert [event.name for event in told.events] == ["public"]


def test_a_processor_may_change_a_span_that_starts() -> None:
    """And sees it as recording, with its attributes."""

    class Enrich(SpanProcessor):
        def on_start(self, span: Any, parent_context: Context | None = None) -> None:
            assert span.is_recording()
            span.set_attribute("tenant", span.attributes["user"])

    traced = Traced()
    traced.provider.add_span_processor(Enrich())
    assert dict(traced.span("n", attributes={"user": 1}).attributes) == {"user": 1, "tenant": 1}


def test_processors_get_the_context_that_the_caller_gave() -> None:
    """None when there was none, as with the SDK."""
    seen: list[Context | None] = []

    class Look(SpanProcessor):
        def on_start(self, span: Any, parent_context: Context | None = None) -> None:
            seen.append(parent_context)

    traced = Traced()
    traced.provider.add_span_processor(Look())
    given = Context()
    traced.span()
    traced.span("n", given)
    assert seen == [None, given]


def test_the_sdks_own_processor_and_exporter_work() -> None:
    """What on_end gets is a `ReadableSpan` in every respect that they need."""
    exporter = InMemorySpanExporter()
    traced = Traced()
    traced.provider.add_span_processor(SimpleSpanProcessor(exporter))
    traced.span("n", attributes={"a": 1}).end()
    [span] = exporter.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == ("n", {"a": 1})


def test_a_processor_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Counted for each call, logged once for each hook; the others and the sink get the span."""
    notes: list[str] = []
    traced = Traced()
    traced.provider.add_span_processor(Raising(ValueError("broken")))
    traced.provider.add_span_processor(Noting("b", notes))
    for _ in range(2):
        traced.span().end()
    assert notes == ["b start", "b ending", "b end"] * 2
    assert len(traced.sink.spans) == 2
    assert traced.provider.force_flush() is False
    traced.provider.shutdown()
    assert traced.sink.shutdowns == 1
    hooks = ["on_start", "_on_ending", "on_end"] * 2 + ["force_flush", "shutdown"]
    assert traced.sink.faults == [(f"Raising.{hook}", "ValueError") for hook in hooks]
    logged = [r for r in caplog.records if r.name == "asynctrace"]
    assert len(logged) == len(set(hooks))
    assert all(r.levelno == logging.WARNING and "broken" in r.getMessage() for r in logged)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_exit_in_a_processor_passes(error: BaseException) -> None:
    """It is not ours to swallow."""
    traced = Traced()
    traced.provider.add_span_processor(Raising(error))
    with pytest.raises(type(error)):
        traced.span()


def test_a_processor_that_only_looks_like_one_is_used_as_far_as_it_goes() -> None:
    """Some do not derive from the SDK's class, and lack its newest hook."""

    class Duck:
        def __init__(self) -> None:
            self.ended: list[Any] = []

        def on_start(self, span: Any, parent_context: Context | None = None) -> None: ...

        def on_end(self, span: Any) -> None:
            self.ended.append(span)

    duck = Duck()
    traced = Traced()
    traced.provider.add_span_processor(duck)  # type: ignore[arg-type]
    span = traced.span()
    span.end()
    assert duck.ended == [span]
    assert traced.sink.faults == []


def test_flushing_stops_at_the_deadline() -> None:
    """Later processors are not even asked, as with the SDK, and the answer is False."""
    notes: list[str] = []

    class Slow(SpanProcessor):
        def force_flush(self, timeout_millis: int = 30000) -> bool:
            deadline = time.monotonic() + timeout_millis / 1000
            while time.monotonic() <= deadline:
                pass
            return True

    traced = Traced()
    traced.provider.add_span_processor(Slow())
    traced.provider.add_span_processor(Noting("late", notes))
    assert traced.provider.force_flush(5) is False
    assert notes == []
    [left] = traced.sink.flushes
    assert left < 0.005


def test_a_processor_that_could_not_flush_is_believed() -> None:
    """False from one is False from all, and the others are flushed nevertheless."""
    notes: list[str] = []

    class Failing(SpanProcessor):
        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return False

    traced = Traced()
    traced.provider.add_span_processor(Failing())
    traced.provider.add_span_processor(Noting("next", notes))
    assert traced.provider.force_flush() is False
    assert notes == ["next flush"]


def test_tools_may_reorder_the_processors() -> None:
    """By the private field of the SDK that they have always used."""
    notes: list[str] = []
    traced = Traced()
    traced.provider.add_span_processor(Noting("a", notes))
    processors = traced.provider._active_span_processor
    processors._span_processors = (Noting("first", notes), *processors._span_processors)
    traced.span()
    assert notes == ["first start", "a start"]
    assert repr(processors) == "Processors(Noting, Noting)"

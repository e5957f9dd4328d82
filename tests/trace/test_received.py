"""A span that keeps what its request says is, for whoever asks, a span like any other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags

from asynctrace.propagation import remote_span
from asynctrace.propagation.tracestate import parse_tracestate
from asynctrace.trace.encoding import encode
from asynctrace.trace.received import ReceivedSpan, match_sampled
from asynctrace.trace.span import Span
from tests.trace.recording import Traced, message

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SERVER = SpanKind.SERVER

Use = Callable[[Span], object]

USES: dict[str, Use] = {
    "trace id": lambda span: span.get_span_context().trace_id,
    "parent": lambda span: span.parent,
    "attributes": lambda span: span.attributes,
    "set": lambda span: span.set_attribute("user", "ada"),
    "set again": lambda span: span.set_attributes({"url.path": "/other", "n": 1}),
    "event": lambda span: span.add_event("event", {"n": 1}),
    "link": lambda span: span.add_link(SpanContext(1, 2, is_remote=True)),
    "status": lambda span: span.set_status(StatusCode.ERROR, "why"),
    "name": lambda span: span.update_name("other"),
    "adopt": lambda span: setattr(span, "_parent", SpanContext(5, 6, is_remote=True)),
    "move": lambda span: setattr(span, "_context", SpanContext(3, 4, False, TraceFlags(1))),
    "repr": repr,
    "json": lambda span: span.to_json(),
}


@pytest.fixture
def traced() -> Traced:
    return Traced()


def describe(path: str) -> dict[str, Any]:
    return {"http.request.method": "GET", "url.path": path}


def received(
    traced: Traced, traceparent: str = TRACEPARENT, *tracestates: str, build: Any = describe
) -> ReceivedSpan:
    state = parse_tracestate(tracestates) if traceparent else None
    span = traced.tracer.start_received("GET /", SERVER, traceparent, state, build, "/")
    assert span is not None
    return span


def started(traced: Traced, traceparent: str, *tracestates: str) -> Span:
    """The same span, started at once."""
    parent = remote_span([traceparent], tracestates) if traceparent else None
    span = traced.tracer.start_lazily("GET /", SERVER, parent, describe, "/")
    assert type(span) is Span
    return span


uses = st.lists(st.sampled_from(sorted(USES)), max_size=5)


@given(
    flags=st.sampled_from(["01", "03", "ff", ""]),
    tracestates=st.lists(st.sampled_from(["a=1", "a=1,b=2", "no good", ""]), max_size=2),
    before=uses,
    after=uses,
    quick=st.booleans(),
)
def test_whatever_is_asked_of_it_it_is_the_same_span(
    flags: str, tracestates: list[str], before: list[str], after: list[str], quick: bool
) -> None:
    """Its bytes equal those of a span that is started at once and used in the same way."""
    traced = Traced()
    traceparent = f"00-{TRACE}-{PARENT}-{flags}" if flags else ""
    late = received(traced, traceparent, *tracestates)
    at_once = started(traced, traceparent, *tracestates)
    late._span_id = at_once._span_id
    if not flags:
        late._trace_id = at_once._trace_id
    for span in (late, at_once):
        for use in before:
            USES[use](span)
        if quick:
            span.end_with({"http.response.status_code": 200})
        else:
            span.update_trusted({"http.response.status_code": 200})
            span.end()
        for use in after:
            if use not in ("move", "adopt", "json", "repr", "trace id", "parent", "attributes"):
                continue  # refused, and said so
            USES[use](span)
    assert message(late) == message(at_once)
    assert late.attributes == at_once.attributes
    assert late.parent == at_once.parent
    assert late.get_span_context() == at_once.get_span_context()
    assert message(late) == message(at_once)  # nor does the reading change it
    assert not traced.sink.faults


@given(st.from_regex("(00|01|ff)-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True))
def test_what_matches_is_sampled_and_valid(traceparent: str) -> None:
    """What the pattern lets in, reading finds as expected."""
    caller = remote_span([traceparent], ())
    expected = caller is not None and bool(caller._trace_flags & 1) and traceparent.startswith("00")
    assert bool(match_sampled(traceparent)) is expected


def test_a_child_is_a_child(traced: Traced) -> None:
    """Of a span that nobody has read, in its trace, with its tracestate."""
    span = received(traced, TRACEPARENT, "a=1")
    child = traced.tracer.start_lazily("child", SpanKind.INTERNAL, span, describe, "/")
    assert isinstance(child, Span)
    assert child.get_span_context().trace_id == int(TRACE, 16)
    assert child.parent == span.get_span_context()
    assert child.get_span_context().trace_state == {"a": "1"}


def test_nobody_asks_so_nothing_is_read(traced: Traced) -> None:
    """The attributes are made once, by the encoder, and not in the request."""
    made = []

    def build(path: str) -> dict[str, Any]:
        made.append(path)
        return describe(path)

    span = received(traced, build=build)
    span.end_with({"http.response.status_code": 200})
    assert made == []
    encode(span)
    assert made == ["/"]


def test_attributes_that_cannot_be_made_are_a_fault_and_no_loss(traced: Traced) -> None:
    """The span arrives with what else is known; the error is counted and kept from the reader."""

    def fail(_path: str) -> dict[str, Any]:
        raise ValueError("no")

    unread, read = received(traced, build=fail), received(traced, build=fail)
    assert read.attributes == {}
    for span in (unread, read):
        span.end_with({"http.response.status_code": 200})
        [status] = message(span).attributes
        assert status.key == "http.response.status_code"
    assert traced.sink.faults == [("attributes", "ValueError")] * 2


def test_threads_that_ask_at_once_get_the_same_answers(traced: Traced) -> None:
    """And whatever order they come in, the end's attributes are there."""
    with ThreadPoolExecutor(3) as threads:
        for _ in range(300):
            span = received(traced, TRACEPARENT, "a=1")
            together = Barrier(3)

            def end(span: Span = span, together: Barrier = together) -> None:
                together.wait(10)
                span.end_with({"http.response.status_code": 200})

            def read(span: Span = span, together: Barrier = together) -> Any:
                together.wait(10)
                return span.attributes, span.get_span_context().trace_id

            asked = [threads.submit(read), threads.submit(read)]
            threads.submit(end).result(10)
            (one, its_trace), (other, other_trace) = (future.result(10) for future in asked)
            assert its_trace == other_trace == int(TRACE, 16)
            assert one == other == span.attributes
            assert span.attributes == {**describe("/"), "http.response.status_code": 200}
            assert len(message(span).attributes) == 3


@pytest.mark.parametrize(
    ("sampler", "traceparent"),
    [
        (ALWAYS_OFF, TRACEPARENT),
        (ParentBased(ALWAYS_OFF), ""),
        (ParentBased(TraceIdRatioBased(0.5)), ""),
        (TraceIdRatioBased(0.5), TRACEPARENT),
    ],
)
def test_only_where_the_decision_is_known_before(sampler: Sampler, traceparent: str) -> None:
    """Whatever else is wanted, `start_lazily` sees to it."""
    tracer = Traced(sampler=sampler).tracer
    assert tracer.start_received("x", SERVER, traceparent, None, describe, "/") is None


def test_not_beside_a_processor(traced: Traced) -> None:
    """It wants to see the span when it starts; and one that comes later sees it whole."""
    early = received(traced)
    seen: list[Any] = []

    class Seeing(SpanProcessor):
        def on_end(self, span: Any) -> None:
            seen.append(dict(span.attributes))

    traced.provider.add_span_processor(Seeing())
    assert traced.tracer.start_received("x", SERVER, TRACEPARENT, None, describe, "/") is None
    early.end_with({"http.response.status_code": 200})
    assert seen == [{**describe("/"), "http.response.status_code": 200}]


def test_what_a_processor_puts_in_its_place_is_sent(traced: Traced) -> None:
    """Also one that comes when the span is open, and nobody has read it."""
    span = received(traced)

    class Scrubbing(SpanProcessor):
        def on_end(self, span: Any) -> None:
            span._attributes = {"scrubbed": True}

    traced.provider.add_span_processor(Scrubbing())
    span.end()
    assert [attribute.key for attribute in message(span).attributes] == ["scrubbed"]


def test_what_is_moved_out_of_the_sample_is_not_sent(traced: Traced) -> None:
    """A span's own flag decides, as of any other."""
    span = received(traced)
    span._context = SpanContext(3, 4, False, TraceFlags(0))
    span.end_with({})
    assert traced.sink.spans == []


def test_an_ended_one_is_not_ended_again(traced: Traced) -> None:
    """Nor does it take further attributes."""
    span = received(traced)
    span.end_with({"http.response.status_code": 200})
    ended = span.end_time
    traced.clock.now += 1
    span.end_with({"http.response.status_code": 500})
    assert span.end_time == ended
    assert span.attributes["http.response.status_code"] == 200
    assert len(traced.sink.spans) == 1


def test_it_is_listed_while_it_is_open(traced: Traced) -> None:
    """With its attributes, in `open_spans`."""
    span = received(traced, "")
    assert traced.provider.open_spans() == (span,)
    assert span.attributes == describe("/")
    span.end_with({})
    assert traced.provider.open_spans() == ()

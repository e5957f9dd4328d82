"""The SDK with OpenTelemetry's encoder, and ours with ours, say the same of any program."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import opentelemetry.sdk.trace as sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as trace_api
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from asynctrace.trace.provider import TracerProvider
from tests.trace.recording import Clock, CountingIds, message, remote

# ---- programs


class Shown:
    """A value of no OpenTelemetry type that can say what it is."""

    def __str__(self) -> str:
        return "shown"


KEYS = st.sampled_from(["a", "b", "c", "d", "e", "f", "g", ""])
SCALARS = (
    st.text(max_size=12)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.booleans()
    | st.binary(max_size=4)
    | st.none()
)
ODD = st.builds(Shown) | st.builds(object) | st.just(2**70) | st.sampled_from([Shown, {1, 2}])
VALUES = st.recursive(
    SCALARS | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
PLAIN_VALUES = st.text(max_size=12) | st.integers(-9, 9) | st.floats() | st.booleans()
ODD_KEYS = KEYS | st.integers(0, 3) | st.builds(Shown)
ATTRIBUTES = (
    st.none()
    | st.dictionaries(KEYS, PLAIN_VALUES, max_size=6)
    | st.dictionaries(ODD_KEYS, VALUES, max_size=6)
)
TIMES = st.none() | st.integers(0, 2**62)
STATES = st.none() | st.just(TraceState([("vendor", "1"), ("other", "2")]))
CONTEXTS = st.builds(
    SpanContext,
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(1), TraceFlags(3)]),
    STATES,
)
LINKS = st.tuples(CONTEXTS, ATTRIBUTES)


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as raised:
        return raised


class LocalError(Exception):
    """An exception with a module."""


EXCEPTIONS = [ValueError("bad"), _raised(KeyError("k")), _raised(LocalError("own")), LocalError()]
STATUSES = [
    (StatusCode.OK,),
    (StatusCode.ERROR, "why"),
    (StatusCode.ERROR,),
    (StatusCode.UNSET, "x"),
    (StatusCode.OK, "ignored"),
    (Status(StatusCode.ERROR, "given"),),
    (Status(StatusCode.ERROR, "given"), "ignored"),
    (Status(StatusCode.UNSET),),
    (Status(StatusCode.OK),),
]


@dataclass(frozen=True)
class Start:
    """Starts a span below another one, a remote one, or none."""

    name: str
    parent: int | SpanContext | None
    kind: SpanKind
    attributes: Any
    links: list[Any]
    start_time: int | None


@dataclass(frozen=True)
class Call:
    """Calls a method of the span with this number, counted round."""

    span: int
    method: str
    arguments: tuple[Any, ...]


STARTS = st.builds(
    Start,
    st.text(max_size=8),
    st.none() | st.integers(0, 3) | CONTEXTS,
    st.sampled_from(SpanKind),
    ATTRIBUTES,
    st.lists(LINKS, max_size=4),
    TIMES,
)


def _calls(method: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.builds(Call, st.integers(0, 3), st.just(method), st.tuples(*arguments))


CHANGES = st.one_of(
    _calls("set_attribute", ODD_KEYS, VALUES),
    _calls("set_attribute", KEYS, PLAIN_VALUES),
    _calls("set_attributes", ATTRIBUTES.filter(lambda given: given is not None)),
    _calls("add_event", st.text(max_size=5), ATTRIBUTES, TIMES),
    _calls("add_link", CONTEXTS, ATTRIBUTES),
    _calls("update_name", st.text(max_size=5)),
    st.builds(Call, st.integers(0, 3), st.just("set_status"), st.sampled_from(STATUSES)),
    _calls("record_exception", st.sampled_from(EXCEPTIONS), ATTRIBUTES, TIMES, st.booleans()),
)
ENDS = st.one_of(
    _calls("end", TIMES),
    st.builds(
        Call,
        st.integers(0, 3),
        st.just("__exit__"),
        st.sampled_from([(type(error), error, None) for error in EXCEPTIONS] + [(None,) * 3]),
    ),
)
PROGRAMS = st.builds(
    lambda first, rest: [first, *rest],
    STARTS,
    st.lists(CHANGES | CHANGES | STARTS | ENDS, min_size=4, max_size=14),
)
BOUNDS = st.sampled_from([SpanLimits.UNSET, 0, 1, 2, 3])
LIMITS = st.just(SpanLimits()) | st.builds(
    SpanLimits,
    max_events=BOUNDS,
    max_links=BOUNDS,
    max_span_attributes=BOUNDS,
    max_event_attributes=BOUNDS,
    max_link_attributes=BOUNDS,
    max_attribute_length=st.sampled_from([SpanLimits.UNSET, 0, 1, 5]),
    max_span_attribute_length=st.sampled_from([SpanLimits.UNSET, 0, 1, 5]),
)


# ---- running them


class Keep(SpanProcessor):
    """Keeps the spans in the order of their ends."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


def run(
    provider: sdk.TracerProvider, clock: Clock, program: list[Start | Call]
) -> list[ReadableSpan]:
    keep = Keep()
    provider.add_span_processor(keep)
    tracer = provider.get_tracer("differential")
    spans: list[trace_api.Span] = []
    for moment, step in enumerate(program):
        clock.now = 1_000 + moment
        if isinstance(step, Start):
            spans.append(_start(tracer, spans, step))
        else:
            getattr(spans[step.span % len(spans)], step.method)(*step.arguments)
    clock.now = 9_999
    for span in spans:
        if span.is_recording():
            span.end()
    return keep.ended


def _start(tracer: trace_api.Tracer, spans: list[trace_api.Span], step: Start) -> trace_api.Span:
    parent: trace_api.Span = trace_api.INVALID_SPAN
    if isinstance(step.parent, SpanContext):
        parent = trace_api.NonRecordingSpan(step.parent)
    elif step.parent is not None and spans:
        parent = spans[step.parent % len(spans)]
    return tracer.start_span(
        step.name,
        trace_api.set_span_in_context(parent),
        step.kind,
        step.attributes,
        [Link(context, attributes) for context, attributes in step.links],  # the SDK changes them
        step.start_time,
    )


def official(span: ReadableSpan) -> SpanMessage:
    return encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]


@pytest.fixture(scope="module", autouse=True)
def _silent_loggers() -> Iterator[None]:
    """Both sides log what they drop, which is tested elsewhere, and programs drop much."""
    names = ["opentelemetry", "asynctrace"]
    levels = [logging.getLogger(name).level for name in names]
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    yield
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)


def both(
    program: list[Start | Call], limits: SpanLimits, *, is_random: bool = False
) -> tuple[list[ReadableSpan], list[ReadableSpan]]:
    """The ended spans of the SDK's tracer, and of ours."""
    resource = Resource({"service.name": "differential"})
    clock = Clock()
    theirs = sdk.TracerProvider(
        ALWAYS_ON,
        resource,
        shutdown_on_exit=False,
        id_generator=CountingIds(is_random=is_random),
        span_limits=limits,
    )
    ours = TracerProvider(
        sampler=ALWAYS_ON,
        resource=resource,
        id_generator=CountingIds(is_random=is_random),
        span_limits=limits,
        clock=clock,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sdk, "time_ns", clock)
        return run(theirs, clock, program), run(ours, clock, program)


@given(PROGRAMS, LIMITS, st.booleans())
def test_any_program_of_span_operations_gives_equal_messages(
    program: list[Start | Call], limits: SpanLimits, is_random: bool
) -> None:
    """Field by field, attribute by attribute in their order, dropped counts included."""
    theirs, ours = both(program, limits, is_random=is_random)
    assert len(theirs) == len(ours)
    for their, our in zip(theirs, ours, strict=True):
        expected, found = official(their), message(our)
        for field in SpanMessage.DESCRIPTOR.fields:
            assert _bytes(found, field.name) == _bytes(expected, field.name), field.name


def _bytes(span: SpanMessage, field: str) -> bytes:
    """One field by itself, as bytes: NaN is not equal to itself."""
    only = SpanMessage()
    only.CopyFrom(span)
    for other in SpanMessage.DESCRIPTOR.fields:
        if other.name != field:
            only.ClearField(other.name)
    return only.SerializeToString(deterministic=True)


PUBLIC: list[tuple[str, Callable[[Any], Any]]] = [
    ("name", lambda span: span.name),
    ("kind", lambda span: span.kind),
    ("context", lambda span: span.context),
    ("get_span_context", lambda span: span.get_span_context()),
    ("parent", lambda span: span.parent),
    ("start_time", lambda span: span.start_time),
    ("end_time", lambda span: span.end_time),
    ("status", lambda span: (span.status.status_code, span.status.description)),
    ("attributes", lambda span: repr(dict(span.attributes))),
    ("dropped_attributes", lambda span: span.dropped_attributes),
    ("events", lambda span: [(e.name, e.timestamp, repr(dict(e.attributes))) for e in span.events]),
    ("dropped_events", lambda span: span.dropped_events),
    ("links", lambda span: [(link.context, repr(dict(link.attributes))) for link in span.links]),
    ("dropped_links", lambda span: span.dropped_links),
    ("resource", lambda span: span.resource),
    ("instrumentation_scope", lambda span: span.instrumentation_scope),
]


@given(PROGRAMS, LIMITS)
def test_any_program_gives_spans_that_read_the_same(
    program: list[Start | Call], limits: SpanLimits
) -> None:
    """The public properties of an ended span are those of the SDK's span."""
    for their, our in zip(*both(program, limits), strict=True):
        for name, read in PUBLIC:
            assert read(our) == read(their), name


@given(PROGRAMS, LIMITS)
def test_a_snapshot_says_what_the_span_says(
    program: list[Start | Call], limits: SpanLimits
) -> None:
    """A copy of a span is a `ReadableSpan` that is encoded to the same bytes."""
    _, ours = both(program, limits)
    for span in ours:
        assert isinstance(span, sdk.Span)
        assert message(span._readable_span()) == message(span) or "nan" in repr(message(span))


def test_parents_of_every_kind_are_told_alike() -> None:
    """A root, a local child, a remote child with tracestate, a child of an invalid parent."""
    state = TraceState([("k", "v")])
    contexts = [
        None,
        0,
        remote(state=state).get_span_context(),
        remote(is_remote=False, flags=0).get_span_context(),
        remote(trace_id=0).get_span_context(),
    ]
    program: list[Start | Call] = [
        Start(f"{n}", parent, SpanKind.SERVER, None, [], None) for n, parent in enumerate(contexts)
    ]
    theirs, ours = both(program, SpanLimits(), is_random=True)
    assert [official(span) for span in theirs] == [message(span) for span in ours]

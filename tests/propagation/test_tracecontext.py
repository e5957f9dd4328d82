"""The pure functions behind ``traceparent``; its rules are in w3c_cases.py."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as trace_api
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from asynctrace.propagation import (
    RemoteSpan,
    RemoteTraceState,
    format_traceparent,
    identity,
    remote_span,
)
from tests.propagation.w3c_cases import VALID

trace_ids = st.integers(1, 2**128 - 1)
span_ids = st.integers(1, 2**64 - 1)
flags = st.integers(0, 255)


@given(trace_ids, span_ids, flags)
def test_read_back(trace_id: int, span_id: int, flag_bits: int) -> None:
    """What is written is read back as it was, but for flags that Level 2 does not define."""
    span = remote_span([format_traceparent(trace_id, span_id, flag_bits)], [])
    assert span is not None
    assert identity(span) == (trace_id, span_id, flag_bits & 3, None)


@given(st.text() | st.text("0123456789abcdefABCDEF-_+ \t\n٣", min_size=50, max_size=60))
def test_strict(text: str) -> None:
    """Whatever is taken is, but for white space around it, what a sender of version 00 writes."""
    span = remote_span([text], [])
    if span is not None and text.strip(" \t").startswith("00"):
        written = format_traceparent(span._trace_id, span._span_id, span._trace_flags)
        assert text.strip(" \t")[:-2] == written[:-2]


@given(st.integers(0, 54), st.characters())
def test_one_wrong_character(position: int, character: str) -> None:
    """One character changed to something that is no lower-case hex digit or dash spoils it all."""
    span = remote_span([VALID[:position] + character + VALID[position + 1 :]], [])
    if character not in "0123456789abcdef-":
        assert span is None


@pytest.mark.parametrize("bits", range(4))
def test_flags(bits: int) -> None:
    """The sampled and the random bit are the OpenTelemetry API's own."""
    span = remote_span([VALID[:-2] + f"{bits:02x}"], [])
    assert span is not None
    trace_flags = span.get_span_context().trace_flags
    assert trace_flags.sampled is bool(bits & 1)
    assert trace_flags.random_trace_id is bool(bits & 2)


def test_unknown_flags_end_here() -> None:
    """Bits that Level 2 reserves are neither taken over nor sent, wherever they come from."""
    span = remote_span([VALID[:-2] + "ff"], [])
    assert span is not None
    assert span._trace_flags == 3
    assert format_traceparent(1, 1, 0xFF).endswith("-03")


def test_tracestate_unread_without_parent() -> None:
    """No valid traceparent, then nobody looks at the tracestate."""

    class Forbidden(list[str]):
        def __iter__(self) -> None:  # type: ignore[override]
            raise AssertionError

    assert remote_span([], Forbidden(["a=1"])) is None
    assert remote_span(["x"], Forbidden(["a=1"])) is None


def test_remote_span_is_a_span_of_the_api() -> None:
    """It can be a parent, it records nothing, and its context is the sender's, made once."""
    span = remote_span([VALID], ["foo=1"])
    assert isinstance(span, NonRecordingSpan)
    assert not span.is_recording()
    span.set_attribute("key", "value")
    span.end()
    context = span.get_span_context()
    assert span.get_span_context() is context
    assert context == SpanContext(
        int(VALID[3:35], 16),
        int(VALID[36:52], 16),
        is_remote=True,
        trace_flags=TraceFlags(1),
        trace_state=TraceState([("foo", "1")]),
    )
    assert repr(span) == f"RemoteSpan({VALID!r}, RemoteTraceState('foo=1'))"


def test_remote_span_without_tracestate() -> None:
    """The API expects a TraceState in a context, so there is an empty one."""
    context = RemoteSpan(1, 2, 0).get_span_context()
    assert context.trace_state == TraceState()


def test_copies() -> None:
    """Spans are copied and pickled with the context they are in."""
    span = RemoteSpan(1, 2, 1, RemoteTraceState({"0a": "1"}))
    for twin in (copy.copy(span), copy.deepcopy(span), pickle.loads(pickle.dumps(span))):
        assert twin.get_span_context() == span.get_span_context()


def test_identity_of_any_span() -> None:
    """Spans of others are asked for their context; an invalid one gives nothing to propagate."""
    state = TraceState([("foo", "1")])
    context = SpanContext(5, 6, is_remote=False, trace_flags=TraceFlags(1), trace_state=state)
    assert identity(NonRecordingSpan(context)) == (5, 6, 1, state)
    assert identity(trace_api.INVALID_SPAN).trace_id == 0
    assert identity(NonRecordingSpan(SpanContext(5, 0, is_remote=False))).trace_id == 0

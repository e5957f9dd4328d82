"""The table of W3C rules against a propagator: extract, continue with a new span, inject."""

from __future__ import annotations

import pytest
from opentelemetry import trace as trace_api

from asynctrace.propagation import Propagator, RemoteSpan
from tests.propagation.w3c_cases import CASES, SPAN_ID, TRACE_ID, Case

PROPAGATOR = Propagator.from_names(["tracecontext", "baggage"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_rule(case: Case) -> None:
    """A request's headers are continued, or not, as the specification says."""
    span = trace_api.get_current_span(PROPAGATOR.extract(list(case.headers)))
    if not case.continued:
        assert span is trace_api.INVALID_SPAN
        return
    context = span.get_span_context()
    assert context.is_remote
    assert context.is_valid
    assert f"{context.trace_id:032x}" == TRACE_ID
    assert f"{context.span_id:016x}" == SPAN_ID
    assert context.trace_state.to_header() == case.state


@pytest.mark.parametrize("case", [case for case in CASES if case.continued], ids=lambda c: c.rule)
def test_what_goes_on(case: Case) -> None:
    """The next hop gets version 00, known flags only, and the sender's tracestate as it was."""
    parent = trace_api.get_current_span(PROPAGATOR.extract(list(case.headers)))
    assert isinstance(parent, RemoteSpan)
    child = RemoteSpan(parent._trace_id, 0xABC, parent._trace_flags, parent._trace_state)
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, trace_api.set_span_in_context(child))
    flags = parent.get_span_context().trace_flags
    assert flags in (0, 1)
    assert carrier.pop("traceparent") == f"00-{TRACE_ID}-0000000000000abc-{flags:02x}"
    assert carrier == ({"tracestate": case.state} if case.state else {})

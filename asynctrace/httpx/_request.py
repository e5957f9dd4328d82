"""Trace context into the request that goes to the wire, and into nothing that the caller holds.

The request that a transport is given may be the caller's own object (`client.send(request)`), sent
again, or by several tasks at once, and looked at afterwards. So the inner transport gets a copy
that differs in its headers alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context

from asynctrace.propagation import Propagator, format_traceparent, identity

if TYPE_CHECKING:
    import httpx

# Set on our copies. A tracing transport further in (ours around a retrying one around ours) sees by
# it that this attempt has its span already.
_MARK = "_asynctrace_traced"

# Headers that do not by themselves say which trace a request belongs to.
_COMPANIONS = frozenset({"tracestate", "baggage"})

# Where baggage is kept, read off what the public API returns.
[_BAGGAGE_KEY] = baggage.set_baggage("name", "value", Context())


def is_traced(request: httpx.Request) -> bool:
    """Whether a transport of ours further out has made the span of this attempt."""
    return _MARK in request.__dict__


def outgoing(
    request: httpx.Request, span: Span, context: Context, propagator: Propagator
) -> httpx.Request:
    """The request to send: a copy whose headers make `span` the parent of what the server does.

    What the caller has put into the headers stays: with a trace context of the caller's nothing is
    added, and the caller's baggage goes in place of the current one.
    """
    trace_id, span_id, flags, state = identity(span)
    if propagator.w3c and trace_id and not state and _BAGGAGE_KEY not in context:
        headers = _with_traceparent(request.headers, format_traceparent(trace_id, span_id, flags))
    else:
        carrier: dict[str, str] = {}
        propagator.inject(carrier, set_span_in_context(span, context))
        headers = _with_all(request.headers, carrier)
    return _copy(request, headers)


def give_back(request: httpx.Request, sent: httpx.Request) -> None:
    """Let the caller's request be what it would be, had the transport been given it.

    A transport that reads a streamed body into memory (`MockTransport` does) leaves it in the
    request, where `response.request.content` and a redirect look for it.
    """
    if sent.stream is not request.stream:
        state = {**sent.__dict__, "headers": request.headers}
        state.pop(_MARK, None)
        request.__dict__.update(state)


def _with_traceparent(given: httpx.Headers, value: str) -> httpx.Headers:
    """The usual case: one header more, or none when the caller has it already."""
    headers = type(given)(given)
    headers["traceparent"] = value
    # Setting a header that is there replaces it. Looking it up first would cost more than the rest:
    # the mapping decodes all headers to find out their encoding.
    return headers if len(headers) > len(given) else type(given)(given)


def _with_all(given: httpx.Headers, carrier: dict[str, str]) -> httpx.Headers:
    headers = type(given)(given)
    theirs = {name.lower().decode("latin-1") for name, _ in given.raw}
    names = {name.lower() for name in carrier}
    if theirs.isdisjoint(names - _COMPANIONS):
        for name, value in carrier.items():
            if name.lower() != "baggage" or "baggage" not in theirs:
                headers[name] = value
    return headers


def _copy(request: httpx.Request, headers: httpx.Headers) -> httpx.Request:
    """A copy of the request with other headers, marked as traced.

    Not made by the constructor, which would lose a body that is in memory already, subclasses and
    whatever else hangs on the request; nor by `copy.copy`, which leaves out stream and extensions.
    """
    sent = object.__new__(type(request))
    state = sent.__dict__
    state.update(request.__dict__)
    state["headers"] = headers
    state[_MARK] = True
    return sent

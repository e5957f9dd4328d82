"""Trace context into the request that goes to the wire, and into nothing that the caller holds.

The request that a transport is given may be the caller's own object (`client.send(request)`), sent
again, or by several tasks at once, and looked at afterwards. So the inner transport gets a copy
that differs in its headers alone.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import set_span_in_context

from asynctrace.propagation import Propagator, format_traceparent
from asynctrace.trace.span import DroppedSpan, Span

if TYPE_CHECKING:
    import httpx

MARK: Final = "_asynctrace_traced"
"""In `__dict__` of our copies. A tracing transport further in (ours around a retrying one around
ours) sees by it that this attempt has its span already."""

# Headers that do not by themselves say which trace a request belongs to.
_COMPANIONS = frozenset({"tracestate", "baggage"})

_new = object.__new__

# Of a header as the libraries keep it: as it was given, in lower case, and the value.
_lowered_name = itemgetter(1)

# Where baggage is kept, read off what the public API returns.
[_BAGGAGE_KEY] = baggage.set_baggage("name", "value", Context())


def outgoing(
    request: httpx.Request, span: ApiSpan, context: Context, propagator: Propagator
) -> httpx.Request:
    """The request to send: a copy whose headers make `span` the parent of what the server does.

    What the caller has put into the headers stays: with a trace context of the caller's nothing is
    added, and the caller's baggage goes in place of the current one.
    """
    if (
        (type(span) is Span or type(span) is DroppedSpan)
        and not span._trace_state
        and _BAGGAGE_KEY not in context
        and propagator.w3c
    ):
        # One header more, or none when the caller has it already. In line, as is the copy, because
        # nearly every request comes this way.
        given = request.headers
        headers = type(given)(given)
        value = format_traceparent(span._trace_id, span._span_id, span._trace_flags)
        try:
            items = headers._list
            if b"traceparent" not in map(_lowered_name, items):
                items.append((b"traceparent", b"traceparent", value.encode()))
        except (AttributeError, IndexError):  # the library has moved what is inside
            headers.setdefault("traceparent", value)
        sent = _new(type(request))
        sent.__dict__ = {**request.__dict__, "headers": headers, MARK: True}
        return sent
    carrier: dict[str, str] = {}
    propagator.inject(carrier, set_span_in_context(span, context))
    return _copy(request, _with_all(request.headers, carrier))


def without_context(request: httpx.Request) -> httpx.Request:
    """A copy to send in place of a request that gets no header of ours."""
    return _copy(request, request.headers)


def give_back(request: httpx.Request, sent: httpx.Request) -> None:
    """Let the caller's request be what it would be, had the transport been given it.

    A transport that reads a streamed body into memory (`MockTransport` does) leaves it in the
    request, where `response.request.content` and a redirect look for it.
    """
    if sent.stream is not request.stream:
        state = {**sent.__dict__, "headers": request.headers}
        state.pop(MARK, None)
        request.__dict__.update(state)


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
    sent = _new(type(request))
    sent.__dict__ = {**request.__dict__, "headers": headers, MARK: True}
    return sent

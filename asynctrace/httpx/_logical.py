"""The logical request: one INTERNAL span around all attempts that one call of a client makes.

Around `send`, which all of a client's methods come down to. Nothing else of a client knows where
the flow of redirects and authentication begins and ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from opentelemetry.context import get_current
from opentelemetry.trace import Span, SpanKind

from asynctrace import semconv
from asynctrace._http.suppression import is_suppressed
from asynctrace.context import attach, detach, end_span
from asynctrace.httpx._attributes import KNOWN_METHODS
from asynctrace.httpx._body import ASYNC_BODIES, BODIES
from asynctrace.httpx._used import SCOPE_NAME
from asynctrace.tracing import Tracing, running

if TYPE_CHECKING:
    import httpx

_MARK = "_asynctrace_logical"
"""In `__dict__` of our `send`, by which it is told apart."""


def is_wrapped(client: Any) -> bool:
    """Whether this one client opens logical spans by itself."""
    return hasattr(vars(client).get("send"), _MARK)


def wrap_send(client: Any, tracing: Tracing | None) -> None:
    """Open a logical span in every call of this one client."""
    if not is_wrapped(client):
        client.send = logical(client.send, tracing, is_async=hasattr(client, "aclose"))


def unwrap_send(client: Any) -> None:
    """Take back what :func:`wrap_send` did."""
    if is_wrapped(client):
        ours = vars(client).pop("send")
        if client.send != ours.__wrapped__:  # one that somebody else had put there
            client.send = ours.__wrapped__


def logical(
    send: Callable[..., Any], tracing: Tracing | None, *, is_async: bool
) -> Callable[..., Any]:
    """A client's `send`, in a span."""
    traced = _around_async(send, tracing) if is_async else _around(send, tracing)
    setattr(traced, _MARK, True)
    return traced


def _around_async(send: Callable[..., Any], tracing: Tracing | None) -> Callable[..., Any]:
    @wraps(send)
    async def traced(request: httpx.Request, **options: Any) -> httpx.Response:
        with _span(tracing, request) as span:
            response: httpx.Response = await send(request, **options)
        if span is not None:
            _end_with(span, response, ASYNC_BODIES[type(response.stream)])
        return response

    return traced


def _around(send: Callable[..., Any], tracing: Tracing | None) -> Callable[..., Any]:
    @wraps(send)
    def traced(request: httpx.Request, **options: Any) -> httpx.Response:
        with _span(tracing, request) as span:
            response: httpx.Response = send(request, **options)
        if span is not None:
            _end_with(span, response, BODIES[type(response.stream)])
        return response

    return traced


@contextmanager
def _span(given: Tracing | None, request: httpx.Request) -> Iterator[Span | None]:
    """The logical span, current inside; it is left open, unless the call fails."""
    tracing = running() if given is None else given
    if tracing is None or is_suppressed(get_current()):
        yield None
        return
    method = request.method if request.method in KNOWN_METHODS else semconv.OTHER_METHOD
    name = semconv.span_name(method, None)
    tracer = tracing.get_tracer(SCOPE_NAME, schema_url=semconv.SCHEMA_URL)
    span = tracer.start_span(
        f"{name} request", None, SpanKind.INTERNAL, {semconv.HTTP_REQUEST_METHOD: method}
    )
    token = attach(span)
    try:
        yield span
    except BaseException as error:
        end_span(span, error)
        raise
    finally:
        detach(token)


def _end_with(span: Span, response: httpx.Response, kind: Any) -> None:
    """Let the span end with the body of the last response."""
    if kind is None or response.is_closed:
        span.end()
    else:
        response.stream = kind(response.stream, span, None)

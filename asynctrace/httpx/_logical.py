"""The logical request: one INTERNAL span around all attempts that one call of a client makes.

Around `send`, which all of a client's methods come down to. Nothing else of a client knows where
the flow of redirects and authentication begins and ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from opentelemetry.context import get_current
from opentelemetry.trace import Span, SpanKind

from asynctrace import semconv
from asynctrace._http.client import Shaping
from asynctrace._http.suppression import is_suppressed
from asynctrace.context import attach, detach
from asynctrace.httpx._attributes import KNOWN_METHODS
from asynctrace.httpx._body import ASYNC_BODIES, BODIES
from asynctrace.httpx._ending import failed
from asynctrace.httpx._shaping import place_of
from asynctrace.httpx._used import SCOPE_NAME
from asynctrace.tracing import Tracing, running

if TYPE_CHECKING:
    from typing import TypeAlias

    import httpx

    Skip: TypeAlias = Callable[[httpx.Request], bool]

_MARK = "_asynctrace_logical"
"""In `__dict__` of our `send`, by which it is told apart."""


def is_wrapped(client: Any) -> bool:
    """Whether this one client opens logical spans by itself."""
    return hasattr(vars(client).get("send"), _MARK)


def skip_of(options: Mapping[str, object]) -> Skip | None:
    """What answers whether a call gets no span: that of the options of its attempts."""
    shaping = Shaping.of({"skip": options.get("skip")}, {}, place_of)
    return None if shaping is None else shaping.skip


def wrap_send(client: Any, tracing: Tracing | None, options: Mapping[str, object]) -> None:
    """Open a logical span in every call of this one client."""
    if not is_wrapped(client):
        is_async = hasattr(client, "aclose")
        client.send = logical(client.send, tracing, skip_of(options), is_async=is_async)


def unwrap_send(client: Any) -> None:
    """Take back what :func:`wrap_send` did."""
    if is_wrapped(client):
        ours = vars(client).pop("send")
        if client.send != ours.__wrapped__:  # one that somebody else had put there
            client.send = ours.__wrapped__


def logical(
    send: Callable[..., Any], tracing: Tracing | None, skip: Skip | None, *, is_async: bool
) -> Callable[..., Any]:
    """A client's `send`, in a span."""
    traced = (_around_async if is_async else _around)(send, tracing, skip)
    setattr(traced, _MARK, True)
    return traced


def _around_async(
    send: Callable[..., Any], tracing: Tracing | None, skip: Skip | None
) -> Callable[..., Any]:
    @wraps(send)
    async def traced(request: httpx.Request, **options: Any) -> httpx.Response:
        with _span(tracing, skip, request) as span:
            response: httpx.Response = await send(request, **options)
        if span is not None:
            _end_with(span, response, ASYNC_BODIES[type(response.stream)])
        return response

    return traced


def _around(
    send: Callable[..., Any], tracing: Tracing | None, skip: Skip | None
) -> Callable[..., Any]:
    @wraps(send)
    def traced(request: httpx.Request, **options: Any) -> httpx.Response:
        with _span(tracing, skip, request) as span:
            response: httpx.Response = send(request, **options)
        if span is not None:
            _end_with(span, response, BODIES[type(response.stream)])
        return response

    return traced


@contextmanager
def _span(
    given: Tracing | None, skip: Skip | None, request: httpx.Request
) -> Iterator[Span | None]:
    """The logical span, current inside; it is left open, unless the call fails."""
    tracing = running() if given is None else given
    if tracing is None or is_suppressed(get_current()) or _is_skipped(skip, request):
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
        failed(span, error)
        raise
    finally:
        detach(token)


def _is_skipped(skip: Skip | None, request: httpx.Request) -> bool:
    """Whether the call is to be skipped. A function that fails is told of by the attempt."""
    try:
        return skip is not None and bool(skip(request))
    except Exception:  # counted by the attempt, which asks the same function
        return False


def _end_with(span: Span, response: httpx.Response, kind: Any) -> None:
    """Let the span end with the body of the last response."""
    if kind is None or response.is_closed:
        span.end()
    else:
        response.stream = kind(response.stream, span, None)

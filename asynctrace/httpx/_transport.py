"""The transports: one CLIENT span per call, which is one attempt to send a request.

They go around any transport of either library, as :func:`asynctrace.httpx.instrument` does with
those of a client, or as plain transports::

    httpx.AsyncClient(transport=AsyncTracingTransport(httpx.AsyncHTTPTransport(retries=2)))
"""

from __future__ import annotations

from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from asynctrace._http.contrib import quiet
from asynctrace.context import attach, detach
from asynctrace.errors import ConfigError
from asynctrace.httpx._attempt import Attempts
from asynctrace.httpx._body import ASYNC_BODIES, BODIES
from asynctrace.httpx._closer import Closer
from asynctrace.httpx._contrib import has_contrib, may_have_contrib
from asynctrace.httpx._ending import failed
from asynctrace.httpx._hops import unanswered
from asynctrace.httpx._library import fit, imported_library, library_of
from asynctrace.httpx._request import give_back

if TYPE_CHECKING:
    from typing import Unpack

    from httpx import AsyncBaseTransport, BaseTransport, Request, Response
    from opentelemetry.trace import Span

    from asynctrace.httpx._exchange import Exchange
    from asynctrace.httpx._shaping import TracingOptions
    from asynctrace.tracing import Tracing
else:
    AsyncBaseTransport = BaseTransport = object  # the library's own are added by `_library.fit`

T = TypeVar("T")


class AsyncTracingTransport(AsyncBaseTransport):
    """Traces every request that goes through `wrapped`, an asynchronous transport.

    It is a genuine transport of the library, httpx or httpx2, that `wrapped` belongs to. Whatever
    else is asked of it (an attribute of the transport's own) is answered by `wrapped`.

    `tracing` is the :class:`~asynctrace.Tracing` to use; by default the one that runs when a
    request is sent. While none runs, requests pass straight through. The other options are those
    of `create_client`.
    """

    put_by: str | None = None
    """What put it where it is, `instrument` for one, so that `uninstrument` takes it away."""

    def __new__(
        cls,
        wrapped: AsyncBaseTransport,
        *,
        tracing: Tracing | None = None,
        **options: Unpack[TracingOptions],
    ) -> Self:
        return object.__new__(_fitted(cls, wrapped, "AsyncBaseTransport"))

    def __init__(
        self,
        wrapped: AsyncBaseTransport,
        *,
        tracing: Tracing | None = None,
        **options: Unpack[TracingOptions],
    ) -> None:
        self.wrapped: Final = wrapped
        self._attempts = Attempts(tracing, options, is_async=True)
        self._may_have_contrib = may_have_contrib(wrapped)
        self._closer = Closer()

    async def handle_async_request(self, request: Request) -> Response:
        """Send a request through the wrapped transport, in a span, with its context in the headers.

        Exceptions and cancellation pass through unchanged.
        """
        attempt = self._attempts.begin(request)
        if attempt is None:
            return await self.wrapped.handle_async_request(request)
        span, sent, exchange = attempt
        send = self.wrapped.handle_async_request
        contrib = (self._may_have_contrib or type(send) is not MethodType) and has_contrib(
            self.wrapped, send
        )
        token = attach(span, quiet() if contrib else None)
        try:
            if exchange is None:
                response = await send(sent)
            else:
                await exchange.enrich("enrich_request", span, request)
                response = await send(sent)
                await _enrich_response(exchange, span, request, response)
        except BaseException as error:
            unanswered(request)
            failed(span, error, None, exchange)
            raise
        finally:
            detach(token)
            if sent.stream is not request.stream:
                give_back(request, sent)
        body = self._attempts.received(span, request, response, exchange, ASYNC_BODIES)
        if body is not None:
            stream: Any = response.stream  # of the kind that `body` goes around
            response.stream = body(stream, span, exchange, self._closer)
        return response

    async def aclose(self) -> None:
        try:
            await self._closer.settle()
        finally:
            await self.wrapped.aclose()

    async def __aenter__(self) -> Self:
        await self.wrapped.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        try:
            await self._closer.settle()
        finally:
            await self.wrapped.__aexit__(exc_type, exc_value, traceback)

    def __repr__(self) -> str:
        return f"AsyncTracingTransport({self.wrapped!r})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            return _ask_wrapped(self, name)


class TracingTransport(BaseTransport):
    """Traces every request that goes through `wrapped`, a synchronous transport.

    The twin of :class:`AsyncTracingTransport`, for `httpx.Client` and `httpx2.Client`.
    """

    put_by: str | None = None
    """What put it where it is, `instrument` for one, so that `uninstrument` takes it away."""

    def __new__(
        cls,
        wrapped: BaseTransport,
        *,
        tracing: Tracing | None = None,
        **options: Unpack[TracingOptions],
    ) -> Self:
        return object.__new__(_fitted(cls, wrapped, "BaseTransport"))

    def __init__(
        self,
        wrapped: BaseTransport,
        *,
        tracing: Tracing | None = None,
        **options: Unpack[TracingOptions],
    ) -> None:
        self.wrapped: Final = wrapped
        self._attempts = Attempts(tracing, options, is_async=False)
        self._may_have_contrib = may_have_contrib(wrapped)

    def handle_request(self, request: Request) -> Response:
        """Send a request through the wrapped transport, in a span, with its context in the headers.

        Exceptions pass through unchanged.
        """
        attempt = self._attempts.begin(request)
        if attempt is None:
            return self.wrapped.handle_request(request)
        span, sent, exchange = attempt
        send = self.wrapped.handle_request
        contrib = (self._may_have_contrib or type(send) is not MethodType) and has_contrib(
            self.wrapped, send
        )
        token = attach(span, quiet() if contrib else None)
        try:
            if exchange is None:
                response = send(sent)
            else:
                exchange.enrich_now("enrich_request", span, request)
                response = send(sent)
                exchange.enrich_now("enrich_response", span, request, response)
        except BaseException as error:
            unanswered(request)
            failed(span, error, None, exchange)
            raise
        finally:
            detach(token)
            if sent.stream is not request.stream:
                give_back(request, sent)
        body = self._attempts.received(span, request, response, exchange, BODIES)
        if body is not None:
            stream: Any = response.stream  # of the kind that `body` goes around
            response.stream = body(stream, span, exchange)
        return response

    def close(self) -> None:
        self.wrapped.close()

    def __enter__(self) -> Self:
        self.wrapped.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.wrapped.__exit__(exc_type, exc_value, traceback)

    def __repr__(self) -> str:
        return f"TracingTransport({self.wrapped!r})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            return _ask_wrapped(self, name)


async def _enrich_response(
    exchange: Exchange, span: Span, request: Request, response: Response
) -> None:
    try:
        await exchange.enrich("enrich_response", span, request, response)
    except BaseException:  # cancelled; nobody else has the response
        await response.aclose()
        raise


def _fitted(ours: type[T], wrapped: object, base: str) -> type[T]:
    """The class to instantiate: `ours`, genuine in the library of what it is to wrap."""
    library = library_of(type(wrapped)) or imported_library()
    if library is None:
        raise ConfigError("wrapped", wrapped, "pass a transport of httpx or httpx2")
    return ours if issubclass(ours, getattr(library, base)) else fit(ours, library, base)


def _ask_wrapped(transport: AsyncTracingTransport | TracingTransport, name: str) -> object:
    if name == "wrapped":  # a transport that was never initialised, while it is copied
        raise AttributeError(name)
    return getattr(transport.wrapped, name)

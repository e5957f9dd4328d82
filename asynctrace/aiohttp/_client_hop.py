"""One attempt of aiohttp's client: its span, from the request to the end of the response's body."""

from __future__ import annotations

import sys
import weakref
from asyncio import CancelledError
from collections.abc import Mapping
from functools import partial
from time import perf_counter
from types import SimpleNamespace
from typing import Any, TypeGuard

from aiohttp import ClientConnectionError, ClientResponse, ClientResponseError, ClientSession
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, StatusCode

from asynctrace import metrics, semconv
from asynctrace._http.client import Shaping
from asynctrace.aiohttp._client_options import Request
from asynctrace.aiohttp._client_request import identity
from asynctrace.context import ContextToken, attach, detach, end_span
from asynctrace.trace.span import Span as OurSpan
from asynctrace.tracing import Tracing


class Hop:
    """One attempt: its span, until it is ended once."""

    def __init__(
        self,
        tracing: Tracing,
        shaping: Shaping,
        measured: metrics.ClientMetrics | None,
        span: Span,
        request: Request,
        count: int,
        theirs: bool,
    ) -> None:
        self.tracing = tracing
        self.fault = tracing.tracer_provider.fault
        self.span = span
        self.request = request
        self.count = count
        self.theirs = theirs
        """Whether the caller has put a trace context of its own into the headers."""
        self.phases: dict[str, float] = {}
        self.begun: dict[str, float] = {}
        self._shaping = shaping
        self._metrics = measured
        self._start = perf_counter()
        self._known: semconv.Attributes = {}
        self._is_over = False
        self._token: ContextToken | None = None
        self._added: tuple[str, ...] = ()

    def enter(self, context: Context | None) -> None:
        """Make the span current, with the rest of `context`, by default of what is current."""
        if self.span is not INVALID_SPAN:  # as it is of an attempt that is skipped
            self._token = attach(self.span, context)

    def leave(self) -> None:
        """Make current what was so before."""
        token, self._token = self._token, None
        if token is not None:
            detach(token)

    def add(self, carrier: Mapping[str, str]) -> None:
        """Put `carrier` into the headers to be sent; baggage of the caller's stays."""
        headers = self.request.headers
        self._added = tuple(n for n in carrier if n != "baggage" or n not in headers)
        for name in self._added:
            headers[name] = carrier[name]

    def take_back(self) -> None:
        """Take out of the headers what was added: aiohttp sends them again, to whomever else."""
        for name in self._added:
            self.request.headers.popall(name, None)

    def received(self, response: ClientResponse) -> None:
        """The headers of the response are there."""
        version = response.version
        told = {**semconv.client_response(response.status, None)}
        if version is not None:
            told[semconv.NETWORK_PROTOCOL_VERSION] = f"{version.major}.{version.minor}"
        self._known = dict(told)
        told.update(_peer(response))
        self._answered(told, response.status, response.headers)

    def refused(self, error: ClientResponseError) -> None:
        """End with a response whose status made the session raise, as `raise_for_status` has it.

        aiohttp tells of its error alone: of the body, the peer and the version nothing is known.
        """
        told = {**semconv.client_response(error.status, None)}
        self._known = dict(told)
        self._answered(told, error.status, error.headers or {})
        self.end(None)

    def _answered(self, told: semconv.Attributes, status: int, headers: Mapping[str, str]) -> None:
        told[semconv.TIME_TO_HEADERS] = perf_counter() - self._start
        if self._shaping.response_headers is not None:
            told.update(self._shaping.response_headers.attributes(headers.items()))
        self._note_receiving()
        self._set(told)
        if semconv.is_client_error(status) and self.span.is_recording():
            self.span.set_status(StatusCode.ERROR)

    def follow(self, response: ClientResponse) -> None:
        """End with the response's body, which may be here already."""
        connection = response.connection
        if self._shaping.end_at_headers or response.status == 101:
            self.end(None)
        elif connection is None:
            self.end(response.content.total_bytes if is_plain(response) else None)
        else:
            # Not the response itself: it is to be collected when nobody wants it any more.
            plain, alive = is_plain(response), weakref.ref(response)
            connection.add_callback(partial(self._released, response.content, plain, alive))

    def _released(self, content: Any, plain: bool, alive: weakref.ref[ClientResponse]) -> None:
        """The connection of the response has been let go."""
        size = content.total_bytes if plain else None
        if content.is_eof() and content.exception() is None:
            self.end(size)
            return
        # In `read()`, and at the end of an `async with`, the connection is let go while what went
        # wrong is being handled. To content that is let go early aiohttp gives the base class of
        # its errors; what breaks by itself has a class of its own.
        handled, broken = sys.exc_info()[1], content.exception()
        if isinstance(handled, CancelledError):
            self.fail(handled, size)
        elif broken is not None and type(broken) is not ClientConnectionError:
            self.fail(broken, size)
        else:
            end = "closed" if alive() is not None else "abandoned"
            self.end(size, {semconv.RESPONSE_BODY_END: end})

    def end(self, size: int | None, told: semconv.Attributes | None = None) -> None:
        told = {} if told is None else told
        if size is not None:
            told[semconv.HTTP_RESPONSE_BODY_SIZE] = size
        self._end(told)

    def fail(self, error: BaseException, size: int | None = None) -> None:
        if self._is_over:
            return
        if isinstance(error, Exception):
            self._known[semconv.ERROR_TYPE] = semconv.error_type(type(error))
        self._end({} if size is None else {semconv.HTTP_RESPONSE_BODY_SIZE: size}, error)

    def _end(self, told: semconv.Attributes, error: BaseException | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        now = perf_counter()
        for phase, begun in self.begun.items():
            self.phases[phase] = self.phases.get(phase, 0.0) + now - begun
        for phase, seconds in self.phases.items():
            told[semconv.HTTP_PHASES[phase]] = seconds
        self._set(told)
        if self.span.is_recording():
            end_span(self.span, error)
        if self._metrics is not None:
            kind = identity(self.request)
            kind.pop(semconv.HTTP_REQUEST_METHOD_ORIGINAL, None)
            kind[semconv.URL_SCHEME] = self.request.url.scheme
            record = self._metrics.record
            if told.get(semconv.RESPONSE_BODY_END) == "abandoned":
                record = self._metrics.record_later
            record(now - self._start, {**kind, **self._known})

    def _set(self, told: semconv.Attributes) -> None:
        if isinstance(self.span, OurSpan):
            if self.span.is_recording():
                self.span.update_trusted(told)
        else:
            self.span.set_attributes(told)

    def _note_receiving(self) -> None:
        if self._shaping.phases:
            stop(self, "send")
            stop(self, "wait")
            self.begun["receive"] = perf_counter()

    def __repr__(self) -> str:
        return f"<Hop {self.request.method} {'ended' if self._is_over else 'open'}>"


def hop_of(state: SimpleNamespace) -> Hop | None:
    hop = getattr(state, "asynctrace", None)
    return hop if isinstance(hop, Hop) else None


def is_refusal(error: BaseException) -> TypeGuard[ClientResponseError]:
    """Whether the session has raised `error` because of the status alone.

    What aiohttp's parser refuses has the same class, and the parser's error for a cause.
    """
    return type(error) is ClientResponseError and error.__cause__ is None


def is_plain(response: ClientResponse) -> bool:
    """Whether the bytes that are counted are those of the wire."""
    return "Content-Encoding" not in response.headers


def _peer(response: ClientResponse) -> semconv.Attributes:
    """The other end of the connection; unknown when a short body came and it was closed at once."""
    # A short body has let go of the connection by now. Only a private name leads to it, then.
    connection = response.connection or getattr(response, "_protocol", None)
    transport = None if connection is None else connection.transport
    address = None if transport is None else transport.get_extra_info("peername")
    if isinstance(address, tuple) and len(address) >= 2:
        return {
            semconv.NETWORK_PEER_ADDRESS: str(address[0]),
            semconv.NETWORK_PEER_PORT: int(address[1]),
        }
    if isinstance(address, str) and address:
        return {semconv.NETWORK_PEER_ADDRESS: address, semconv.NETWORK_TRANSPORT: "unix"}
    return {}


# --- phases ---------------------------------------------------------------------------------------


async def note(
    phase: str, begins: bool, session: ClientSession, state: SimpleNamespace, told: object
) -> None:
    hop = hop_of(state)
    if hop is not None:
        if begins:
            hop.begun[phase] = perf_counter()
        else:
            stop(hop, phase)


async def note_sent(session: ClientSession, state: SimpleNamespace, told: object) -> None:
    """Headers or a part of the body have been sent; the last to be sent is where waiting begins."""
    hop = hop_of(state)
    if hop is not None and "receive" not in hop.begun:
        now = perf_counter()
        hop.phases["send"] = now - hop.begun.get("send", now)
        hop.begun["wait"] = now


def stop(hop: Hop, phase: str) -> None:
    begun = hop.begun.pop(phase, None)
    if begun is not None and (phase != "send" or phase not in hop.phases):
        hop.phases[phase] = hop.phases.get(phase, 0.0) + perf_counter() - begun

"""What went over a WebSocket, counted where the application sends and receives.

The socket is the application's own object, made by its handler. When it begins to prepare, it is
given a subclass of its own class, whose public methods count: so messages are counted as the
application sees them, pings and pongs that aiohttp answers by itself are not, and nothing is kept
but numbers. No class of aiohttp is changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from aiohttp.http import WebSocketError
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Tracer, get_current_span

from asynctrace import semconv
from asynctrace.context import ContextToken, attach, detach

# Starts the span of one message: "receive" or "send", and what is known of the message.
StartMessage: TypeAlias = Callable[[str, semconv.Attributes], Span]

_DATA: Final = frozenset({WSMsgType.TEXT, WSMsgType.BINARY})


class Conversation:
    """Counts of one socket, and the spans of its messages where these are asked for."""

    __slots__ = (
        "_bytes_received",
        "_bytes_sent",
        "_close_code",
        "_initiator",
        "_messages_received",
        "_messages_sent",
        "_processing",
        "_share",
        "_start",
        "is_lost",
        "socket",
    )

    def __init__(self, start: StartMessage | None = None, share: float = 0.0) -> None:
        self._start = start
        self._share = share
        self._messages_received = self._messages_sent = 0
        self._bytes_received = self._bytes_sent = 0
        self._close_code: int | None = None
        self._initiator: str | None = None
        self._processing: tuple[Span, ContextToken] | None = None
        self.is_lost = False
        """Whether the connection broke without a closing handshake."""
        self.socket: web.WebSocketResponse | None = None
        """None before the upgrade, and when the span has ended."""

    def __repr__(self) -> str:
        return f"<Conversation of {self._messages_received}+{self._messages_sent} messages>"

    def received(self, message: WSMessage) -> None:
        """A message, or the news that there will be no more, is handed to the application."""
        kind = message.type
        if kind in _DATA:
            size = _size(message.data)
            self._messages_received += 1
            self._bytes_received += size
            self._process("receive", kind, size)
        elif kind is WSMsgType.CLOSE:
            self._initiator = self._initiator or "client"
            self._close_code = message.data
        elif kind is WSMsgType.CLOSED and message.data is None and self._initiator is None:
            self.lost()
        elif kind is WSMsgType.ERROR:
            if isinstance(message.data, WebSocketError):  # the server refuses what it got
                self._initiator = "server"
                self._close_code = message.data.code
            else:
                self.is_lost = True

    def sent(self, kind: WSMsgType, data: object) -> None:
        """A message of the application was handed to the transport."""
        self._messages_sent += 1
        self._bytes_sent += _size(data)

    def closing(self, code: int) -> bool:
        """The application closes the socket with `code`; False if its end had begun before."""
        if self._initiator is not None or (
            self.socket is not None and self.socket.close_code is not None
        ):
            return False
        self._initiator = "server"
        self._close_code = code
        return True

    def lost(self) -> None:
        """The connection broke, and nobody closed it."""
        self.is_lost = True
        self._initiator = None
        self._close_code = WSCloseCode.ABNORMAL_CLOSURE

    @property
    def is_over(self) -> bool:
        """Whether there was a socket, and it was closed by one of the two."""
        return self.socket is not None and self.socket.closed and not self.is_lost

    def end(self) -> semconv.Attributes:
        """What the span of the whole socket says at the end; nothing when there was no upgrade."""
        self.processed()
        socket, self.socket = self.socket, None
        if socket is None:
            return {}
        code = self._close_code if self._close_code is not None else socket.close_code
        attributes: semconv.Attributes = {
            semconv.WEBSOCKET_MESSAGES_RECEIVED: self._messages_received,
            semconv.WEBSOCKET_MESSAGES_SENT: self._messages_sent,
            semconv.WEBSOCKET_BYTES_RECEIVED: self._bytes_received,
            semconv.WEBSOCKET_BYTES_SENT: self._bytes_sent,
        }
        if code is not None:
            attributes[semconv.WEBSOCKET_CLOSE_CODE] = int(code)
        if self._initiator is not None:
            attributes[semconv.WEBSOCKET_CLOSE_INITIATOR] = self._initiator
        return attributes

    # ---- spans of messages

    def start(self, what: str, kind: WSMsgType, size: int) -> Span | None:
        """The span of one message, if it is among those that get one."""
        if self._start is None or random.random() >= self._share:
            return None
        return self._start(
            what,
            {
                semconv.WEBSOCKET_MESSAGE_TYPE: kind.name.lower(),
                semconv.WEBSOCKET_MESSAGE_SIZE: size,
            },
        )

    def _process(self, what: str, kind: WSMsgType, size: int) -> None:
        span = self.start(what, kind, size)
        if span is not None:
            self._processing = span, attach(span)

    def processed(self) -> None:
        """The application is done with the message before: it asks for the next, or has ended."""
        processing, self._processing = self._processing, None
        if processing is not None:
            span, token = processing
            detach(token)
            span.end()


class _Counting(web.WebSocketResponse):
    """Put before the class of a socket, see `_counting`."""

    asynctrace_conversation: Conversation

    async def receive(self, timeout: float | None = None) -> Any:
        conversation = self.asynctrace_conversation
        conversation.processed()
        message = await super().receive(timeout)
        conversation.received(message)
        return message

    async def send_str(self, data: str, *args: Any, **options: Any) -> None:
        await self._send(super().send_str, WSMsgType.TEXT, data, *args, **options)

    async def send_bytes(self, data: bytes, *args: Any, **options: Any) -> None:
        await self._send(super().send_bytes, WSMsgType.BINARY, data, *args, **options)

    if hasattr(web.WebSocketResponse, "send_frame"):  # since aiohttp 3.11

        async def send_frame(
            self, message: bytes, opcode: WSMsgType, *args: Any, **options: Any
        ) -> None:
            if opcode in _DATA:
                await self._send(super().send_frame, opcode, message, opcode, *args, **options)
            else:
                await super().send_frame(message, opcode, *args, **options)

    async def _send(
        self, send: Any, kind: WSMsgType, data: Any, *args: Any, **options: Any
    ) -> None:
        conversation = self.asynctrace_conversation
        span = None
        if conversation._start is not None:
            span = conversation.start("send", kind, _size(data))
        try:
            await send(data, *args, **options)
        except Exception as error:
            if span is not None:
                span.record_exception(error)
            raise
        finally:
            if span is not None:
                span.end()
        conversation.sent(kind, data)

    async def close(self, *, code: int = WSCloseCode.OK, **options: Any) -> bool:
        conversation = self.asynctrace_conversation
        begins = conversation.closing(code)
        closed = await super().close(code=code, **options)
        if begins and isinstance(self.exception(), ConnectionError):  # nobody there to be told
            conversation.lost()
        return closed


@lru_cache(maxsize=128)  # an application may make a class for each request
def _counting(kind: type[web.WebSocketResponse]) -> type[web.WebSocketResponse]:
    bases = (_Counting,) if kind is web.WebSocketResponse else (_Counting, kind)
    return type(kind.__name__, bases, {"__module__": kind.__module__})


class _Upgrading(web.Request):
    """A request that asks for an upgrade: it is told when its response begins.

    `_prepare_hook` is the one private name: `on_response_prepare`, the public signal, would be sent
    for every request of the application. When it moves, sockets are not counted, and a test fails.
    """

    asynctrace_conversation: Conversation

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        if isinstance(response, web.WebSocketResponse):
            watch_socket(response, self.asynctrace_conversation)
        await super()._prepare_hook(response)


_Upgrading.__name__ = _Upgrading.__qualname__ = web.Request.__name__


def watch_upgrade(request: web.Request, conversation: Conversation) -> None:
    """Count what goes over the WebSocket that `request` may turn into.

    Past `web.Request.__setattr__`, which warns of foreign names in aiohttp's debug mode.
    """
    if type(request) is web.Request:
        object.__setattr__(request, "asynctrace_conversation", conversation)
        object.__setattr__(request, "__class__", _Upgrading)


def watch_socket(socket: web.WebSocketResponse, conversation: Conversation) -> None:
    """Count what goes over `socket`. Does nothing for a class that cannot be extended."""
    try:
        object.__setattr__(socket, "__class__", _counting(type(socket)))
    except TypeError:  # it has slots, or refuses to be subclassed
        return
    object.__setattr__(socket, "asynctrace_conversation", conversation)
    conversation.socket = socket


def conversation_of(request: web.Request) -> Conversation | None:
    """What is counted of the socket that `request` turned into; None of any other request."""
    found: object = getattr(request, "asynctrace_conversation", None)
    return found if isinstance(found, Conversation) else None


def start_message(tracer: Tracer, what: str, attributes: semconv.Attributes) -> Span:
    """The span of a message: a trace of its own, linked to that of the socket.

    So an hour's conversation is not one trace of an hour.
    """
    socket = get_current_span().get_span_context()
    return tracer.start_span(
        f"websocket {what}",
        Context(),
        SpanKind.CONSUMER if what == "receive" else SpanKind.PRODUCER,
        attributes,
        [Link(socket)] if socket.is_valid else (),
    )


def _size(data: object) -> int:
    if isinstance(data, str):
        return len(data) if data.isascii() else len(data.encode("utf-8", "surrogatepass"))
    if isinstance(data, memoryview):
        return data.nbytes
    return len(data) if isinstance(data, (bytes, bytearray)) else 0

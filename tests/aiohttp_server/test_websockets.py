"""What the span of a WebSocket says of the conversation, and what the conversation costs."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType, web
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.aiohttp import setup
from asynctrace.aiohttp._websocket import Conversation, watch_socket
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import PATIENCE, Recorder, Service, Serving, app_of, until


def _connect(
    service: Service, **options: object
) -> AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
    url = f"http://127.0.0.1:{service.port}/"
    return service.session.ws_connect(url, **options)  # type: ignore[arg-type, return-value]


def _told(span: ReadableSpan) -> dict[str, object]:
    prefix = "asynctrace.websocket."
    return {
        name.removeprefix(prefix): value
        for name, value in (span.attributes or {}).items()
        if name.startswith(prefix)
    }


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=0.05)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data * 2)
        else:
            await socket.send_bytes(message.data)
    return socket


async def test_messages_and_bytes_are_counted_each_way(
    tracing: Tracing, recorder: Recorder
) -> None:
    """As the application sees them; pings and pongs are none. The client closes."""
    app = app_of(echo)
    setup(app, tracing)
    async with Serving(app) as service:
        async with _connect(service) as socket:
            await socket.send_str("hé")
            assert (await socket.receive()).data == "héhé"
            await socket.ping()
            await socket.send_bytes(b"12345")
            assert (await socket.receive()).data == b"12345"
            [span] = tracing.open_spans()
            assert span.name == "GET /"
            await socket.close(code=4000)
        ended = await recorder.one()
    assert _told(ended) == {
        "messages.received": 2,
        "messages.sent": 2,
        "bytes.received": 8,
        "bytes.sent": 11,
        "close.code": 4000,
        "close.initiator": "client",
    }
    assert (ended.attributes or {})["http.response.status_code"] == 101
    assert ended.status.status_code is StatusCode.UNSET


Ending = Callable[[web.WebSocketResponse], Awaitable[object]]


async def _close(socket: web.WebSocketResponse) -> None:
    await socket.close(code=WSCloseCode.GOING_AWAY)


async def _just_return(_socket: web.WebSocketResponse) -> None:
    return


@pytest.mark.parametrize(("end", "code"), [(_close, 1001), (_just_return, 1000)])
async def test_the_server_closes(
    tracing: Tracing, recorder: Recorder, end: Ending, code: int
) -> None:
    """By close(), or because the handler has returned and aiohttp closes."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"a": 1})
        await end(socket)
        return socket

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with _connect(service) as socket:
            assert (await socket.receive()).type is WSMsgType.TEXT
            assert (await socket.receive()).type is WSMsgType.CLOSE
        told = _told(await recorder.one())
    assert (told["close.code"], told["close.initiator"]) == (code, "server")
    assert (told["messages.sent"], told["bytes.sent"]) == (1, 8)


async def test_a_connection_that_breaks_is_no_close(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool
) -> None:
    """Without the closing handshake nobody closed: the client is gone, and the span an error."""
    ready = asyncio.Event()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        ready.set()
        async for _ in socket:
            pass
        return socket

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with _connect(service) as socket:
            await asyncio.wait_for(ready.wait(), PATIENCE)
            await socket.send_str("last words")
            transport = socket._response.connection.transport
            transport.close()
        span = await recorder.one()
    attributes = span.attributes or {}
    assert attributes["asynctrace.cancellation.reason"] == "client_disconnect"
    assert span.status.status_code is StatusCode.ERROR
    assert "close.initiator" not in _told(span)
    assert _told(span).get("close.code") in (1006, None)


@pytest.mark.parametrize("sends", [True, False])
async def test_a_connection_that_breaks_unread_is_no_close(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool, sends: bool
) -> None:
    """A handler that never receives sees no end; that aiohttp closes behind it reaches nobody."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("tick")
        await until(lambda: request.transport is None)
        if sends:
            with pytest.raises(ConnectionError):
                await socket.send_str("tick")
        return socket

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with _connect(service) as socket:
            await socket.receive()
            socket._response.connection.transport.abort()
        span = await recorder.one()
    assert (span.attributes or {})["asynctrace.cancellation.reason"] == "client_disconnect"
    assert span.status.status_code is StatusCode.ERROR
    told = _told(span)
    assert told["messages.sent"] == 1
    assert "close.initiator" not in told
    assert told.get("close.code") in (1006, None)


async def test_a_client_that_does_not_answer_the_heartbeat_is_gone(
    tracing: Tracing, recorder: Recorder
) -> None:
    """aiohttp hangs up on it; nobody closed."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=0.02)
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service, _connect(service, autoping=False):
        span = await recorder.one()
    assert (span.attributes or {})["asynctrace.cancellation.reason"] == "client_disconnect"
    assert (_told(span)["close.code"], "close.initiator" in _told(span)) == (1006, False)


async def test_a_close_that_is_not_answered_was_the_servers(
    tracing: Tracing, recorder: Recorder
) -> None:
    """It said so, with its code; the client had its time."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(timeout=0.01)
        await socket.prepare(request)
        await socket.close(code=WSCloseCode.GOING_AWAY)
        return socket

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service, _connect(service, autoclose=False):
        told = _told(await recorder.one())
    assert (told["close.code"], told["close.initiator"]) == (1001, "server")


async def test_a_message_that_is_refused_is_closed_by_the_server(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Too large: aiohttp closes with the code of the protocol."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=10)
        await socket.prepare(request)
        assert (await socket.receive()).type is WSMsgType.ERROR
        return socket

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with _connect(service) as socket:
            await socket.send_str("x" * 100)
            assert (await socket.receive()).data == WSCloseCode.MESSAGE_TOO_BIG
        told = _told(await recorder.one())
    assert (told["close.code"], told["close.initiator"]) == (1009, "server")


async def test_a_handler_that_fails_has_told_what_was_said(
    tracing: Tracing, recorder: Recorder
) -> None:
    """The counts are there beside the error."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive_str()
        raise ValueError("no")

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with _connect(service) as socket:
            await socket.send_str("abc")
            await socket.receive()
        span = await recorder.one()
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert (_told(span)["messages.received"], _told(span)["bytes.received"]) == (1, 3)


@pytest.mark.parametrize("shaped", [True, False])
async def test_a_refused_upgrade_is_an_ordinary_response(
    tracing: Tracing, recorder: Recorder, shaped: bool
) -> None:
    """Nothing is said of a conversation that never was."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.query:
            raise web.HTTPForbidden
        return web.Response(text="not here")

    app = app_of(handler)
    setup(app, tracing, **({"trusted_proxies": 1} if shaped else {}))  # type: ignore[arg-type]
    async with Serving(app) as service:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        assert await service.status("/", headers=headers) == 200
        assert await service.status("/?no", headers=headers) == 403
    for span in recorder.spans:
        assert _told(span) == {}


async def test_sockets_of_a_class_of_ones_own_are_counted(
    tracing: Tracing, recorder: Recorder
) -> None:
    """The object stays what it is, and what its class does is done."""

    class Socket(web.WebSocketResponse):
        async def send_str(self, data: str, compress: int | None = None) -> None:
            await super().send_str(data.upper(), compress)

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = Socket()
        await socket.prepare(request)
        assert isinstance(socket, Socket)
        assert type(socket).__name__ == "Socket"
        assert isinstance(request, web.Request)
        assert repr(request).startswith("<Request GET /")
        await socket.send_str("a")
        if hasattr(web.WebSocketResponse, "send_frame"):  # since aiohttp 3.11
            await socket.send_frame(b"bc", WSMsgType.TEXT)
            await socket.send_frame(b"", WSMsgType.PING)
        else:
            await socket.send_bytes(b"bc")
        return socket

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with _connect(service) as socket:
            assert [(await socket.receive()).data, (await socket.receive()).data] == [
                "A",
                "bc" if hasattr(web.WebSocketResponse, "send_frame") else b"bc",
            ]
            await socket.receive()
        told = _told(await recorder.one())
    assert (told["messages.sent"], told["bytes.sent"]) == (2, 3)


async def test_a_socket_that_cannot_be_watched_works(tracing: Tracing, recorder: Recorder) -> None:
    """A class that refuses to be extended, and a request of another class: no counts, no harm."""

    class Closed(web.WebSocketResponse):
        def __init_subclass__(cls) -> None:
            raise TypeError("final")

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = Closed()
        await socket.prepare(request)
        await socket.send_str("a")
        return socket

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with _connect(service) as socket:
            assert (await socket.receive()).data == "a"
        span = await recorder.one()
    assert _told(span) == {}
    assert (span.attributes or {})["http.response.status_code"] == 101


# --- spans of messages ---------------------------------------------------------------------------


async def test_messages_have_spans_of_their_own_when_asked(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Each a trace, linked to the socket's; what the application does with a message is in it."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            with tracing.get_tracer("test").start_as_current_span("work"):
                await socket.send_str(message.data)
        return socket

    app = app_of(handler)
    setup(app, tracing, message_spans=1.0)
    async with Serving(app) as service:
        async with _connect(service) as socket:
            for text in ("one", "two"):
                await socket.send_str(text)
                await socket.receive()
            await socket.close()
        await recorder.take(7)
    [server] = [span for span in recorder.spans if span.kind is SpanKind.SERVER]
    received = [span for span in recorder.spans if span.name == "websocket receive"]
    sent = [span for span in recorder.spans if span.name == "websocket send"]
    work = [span for span in recorder.spans if span.name == "work"]
    assert (len(received), len(sent), len(work)) == (2, 2, 2)
    assert [span.kind for span in (received[0], sent[0])] == [SpanKind.CONSUMER, SpanKind.PRODUCER]
    assert _told(received[0]) == {"message.type": "text", "message.size": 3}
    assert all(span.parent is None for span in (*received, *sent))
    assert {span.links[0].context.span_id for span in received} == {server.context.span_id}
    assert [span.parent and span.parent.span_id for span in work] == [
        span.context.span_id for span in received
    ]
    assert len({span.context.trace_id for span in recorder.spans}) == 5


async def test_a_share_of_the_messages_has_spans(tracing: Tracing, recorder: Recorder) -> None:
    """By chance, for each message alone; none of the spans stays current."""
    app = app_of(echo)
    setup(app, tracing, message_spans=0.5)
    async with Serving(app) as service:
        async with _connect(service) as socket:
            for _ in range(100):
                await socket.send_bytes(b"x")
                await socket.receive()
            await socket.close()
        await until(lambda: any(span.kind is SpanKind.SERVER for span in recorder.spans))
    assert 30 < len(recorder.spans) < 170
    assert tracing.open_spans() == ()
    assert trace.get_current_span() is trace.INVALID_SPAN


# --- cost ----------------------------------------------------------------------------------------


async def test_a_chatty_socket_does_not_grow_memory(tracing: Tracing, recorder: Recorder) -> None:
    """Ten thousand messages leave numbers behind, and nothing else."""
    size = 10_000
    conversation = Conversation()
    socket = web.WebSocketResponse()
    watch_socket(socket, conversation)
    message = aiohttp.WSMessage(WSMsgType.TEXT, "hello", None)

    def chat() -> None:
        for _ in range(size):
            conversation.received(message)
            conversation.sent(WSMsgType.BINARY, b"answer")

    chat()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        chat()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1000
    told = conversation.end()
    assert told["asynctrace.websocket.messages.received"] == 2 * size
    assert repr(conversation) == "<Conversation of 20000+20000 messages>"
    assert conversation.end() == {}


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_a_long_conversation_leaves_nothing_behind(
    tracing: Tracing, recorder: Recorder, share: float
) -> None:
    """On a real socket, with and without spans of its messages."""
    recorder.forgets = True
    app = app_of(echo)
    setup(app, tracing, message_spans=share)
    async with Serving(app) as service, _connect(service) as socket:

        async def chat(count: int) -> int:
            """Echo `count` messages, and tell the memory in use."""
            for _ in range(count):
                await socket.send_bytes(b"hello")
                await socket.receive()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = await chat(500)
            after = await chat(1500)
        finally:
            tracemalloc.stop()
        assert after - before < 30_000  # 20 bytes a message would be more
        assert len(tracing.open_spans()) <= 2
        await socket.close()
    assert tracing.open_spans() == ()

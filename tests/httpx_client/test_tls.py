"""Over TLS: HTTP/1.1 and HTTP/2, directly and through a proxy's tunnel (CONNECT)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

from asynctrace.httpx import instrument
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder

pytestmark = pytest.mark.may_block("an SSL context reads certificates")

BEHIND = "behind.example"
PHASE = "asynctrace.http.phase."


class Authority(NamedTuple):
    """What a server shows, and what a client trusts."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def authority() -> Authority:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", BEHIND).configure_cert(server)
    server.set_alpn_protocols(["h2", "http/1.1"])
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return Authority(server, client)


class Listening:
    """A server, and what it was sent."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[str] = []
        """Of each request: what came, in lower case."""


@asynccontextmanager
async def _listening(serve: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listening]:
    found = Listening()
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await serve(reader, writer, found)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


async def _answer(reader: Any, writer: asyncio.StreamWriter, found: Listening) -> None:
    """Greet everybody, in the protocol that was agreed upon."""
    if writer.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
        while True:
            found.heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
    )
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    while data := await reader.read(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                found.heads.append(repr(event.headers))
            elif isinstance(event, h2.events.StreamEnded):
                connection.send_headers(event.stream_id, [(":status", "200")])
                connection.send_data(event.stream_id, b"hello", end_stream=True)
        writer.write(connection.data_to_send())


def _tunnel_to(port: int) -> Any:
    async def serve(reader: Any, writer: asyncio.StreamWriter, found: Listening) -> None:
        found.heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        if BEHIND not in found.heads[-1]:
            writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            await reader.read()
            return
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(_pipe(reader, outer), _pipe(inner, writer))
        finally:
            outer.transport.abort()

    return serve


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("tunnelled", [False, True], ids=["direct", "tunnel"])
async def test_over_tls(
    kind: Kind,
    authority: Authority,
    tracing: Tracing,
    recorder: Recorder,
    http2: bool,
    tunnelled: bool,
) -> None:
    """The version, the peer and the phases are those that were; a tunnel is told no context."""
    async with (
        _listening(_answer, authority.server) as server,
        _listening(_tunnel_to(server.port)) as proxy,
    ):
        options = {"proxy": f"http://127.0.0.1:{proxy.port}"} if tunnelled else {}
        url = f"https://{BEHIND}/x" if tunnelled else f"https://localhost:{server.port}/x"
        async with kind.client(verify=authority.client, http2=http2, **options) as client:
            instrument(client, tracing=tracing, phases=True)
            for _ in range(2):
                assert (await kind.call(client.get, url)).content == b"hello"
    first, second = (dict(span.attributes or {}) for span in recorder.spans)
    for attributes, head, span in zip((first, second), server.heads, recorder.spans, strict=True):
        assert attributes["url.full"] == url
        assert attributes["network.protocol.version"] == ("2" if http2 else "1.1")
        assert attributes["network.peer.address"] == "127.0.0.1"
        assert attributes["network.peer.port"] == (proxy.port if tunnelled else server.port)
        assert attributes["http.response.body.size"] == 5
        assert f"{span.context.trace_id:032x}-{span.context.span_id:016x}" in head
    assert _phases(first) == {"pool_wait", "connect", "tls", "send", "wait", "receive"}
    assert _phases(second) == {"pool_wait", "send", "wait", "receive"}
    assert len(proxy.heads) == tunnelled
    assert not any("traceparent" in head for head in proxy.heads)


async def test_a_tunnel_that_is_refused(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """The proxy's answer is no response to the request: the span has an error and no status."""
    async with (
        _listening(_tunnel_to(0)) as proxy,
        kind.client(proxy=f"http://127.0.0.1:{proxy.port}") as client,
    ):
        instrument(client, tracing=tracing)
        with pytest.raises(kind.library.ProxyError):
            await kind.call(client.get, "https://elsewhere.example/")
    attributes = recorder.one().attributes or {}
    assert attributes["error.type"] == f"{kind.library.__name__}.ProxyError"
    assert "http.response.status_code" not in attributes


async def test_a_certificate_that_is_not_trusted(
    kind: Kind, authority: Authority, tracing: Tracing, recorder: Recorder
) -> None:
    """A handshake that fails is a connection that does not come about."""
    async with _listening(_answer, authority.server) as server, kind.client() as client:
        instrument(client, tracing=tracing, phases=True)
        with pytest.raises(kind.library.ConnectError):
            await kind.call(client.get, f"https://localhost:{server.port}/")
    attributes = dict(recorder.one().attributes or {})
    assert attributes["error.type"] == f"{kind.library.__name__}.ConnectError"
    assert _phases(attributes) == {"pool_wait", "connect", "tls"}


def _phases(attributes: dict[str, Any]) -> set[str]:
    return {name.removeprefix(PHASE) for name in attributes if name.startswith(PHASE)}

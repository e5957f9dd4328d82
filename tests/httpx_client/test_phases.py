"""Inside the exchange: where its time went, who the peer was, and which HTTP it was."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from asynctrace.httpx import instrument
from asynctrace.httpx._peer import peer_of
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server, until

PREFIX = "asynctrace.http.phase."


def _phases(span: Any) -> dict[str, float]:
    return {
        name.removeprefix(PREFIX): value
        for name, value in (span.attributes or {}).items()
        if name.startswith(PREFIX)
    }


async def test_phases(kind: Kind, server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """A new connection has a connect, one that is used again has none; all add up to the span."""
    async with kind.client() as client:
        instrument(client, tracing=tracing, phases=True)
        await kind.call(client.get, server.url("/200"))
        await kind.call(client.get, server.url("/200"))
    first, second = recorder.spans
    assert set(_phases(first)) == {"pool_wait", "connect", "send", "wait", "receive"}
    assert set(_phases(second)) == {"pool_wait", "send", "wait", "receive"}
    for span in (first, second):
        phases = _phases(span)
        assert all(seconds >= 0 for seconds in phases.values())
        assert sum(phases.values()) <= ((span.end_time or 0) - (span.start_time or 0)) / 1e9


async def test_waiting_for_the_pool(
    async_kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Time spent in the queue of a pool that is used up is told as such."""
    limits = async_kind.library.Limits(max_connections=1)
    waits = asyncio.Event()

    async def listen(event: str, info: Any) -> None:
        if event.endswith("receive_response_headers.started"):
            waits.set()

    async with async_kind.client(limits=limits) as client:
        instrument(client, tracing=tracing, phases=True)
        extensions = {"trace": listen}
        slow = asyncio.create_task(client.get(server.url("/silent"), extensions=extensions))
        await waits.wait()
        waiting = asyncio.create_task(client.get(server.url("/200")))
        await until(lambda: len(recorder.started) == 2)
        begun = perf_counter()
        await asyncio.sleep(0.01)
        held = perf_counter() - begun
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        await waiting
    cancelled, waited = recorder.spans
    assert _phases(cancelled)["wait"] >= held  # what was still under way counts
    assert _phases(waited)["pool_wait"] >= held


async def test_the_callers_own_trace(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """It hears every event that it would hear without us, and the extensions stay the caller's."""
    heard: list[str] = []

    def listen(event: str, info: Any) -> None:
        heard.append(event)

    async def listen_async(event: str, info: Any) -> None:
        heard.append(event)

    theirs = listen_async if kind.is_async else listen
    async with kind.client() as client:
        await kind.call(client.get, server.url("/200"), extensions={"trace": theirs})
    without, heard = heard, []
    async with kind.client() as client:
        instrument(client, tracing=tracing, phases=True)
        response = await kind.call(client.get, server.url("/200"), extensions={"trace": theirs})
    assert heard == without
    assert response.request.extensions["trace"] is theirs
    assert "connect" in _phases(recorder.one())


async def test_tls_and_unix_sockets(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """By the events that httpcore sends of them; of others nothing is made."""

    def tell(request: Any, name: str) -> Any:
        return request.extensions["trace"](f"connection.{name}", {})

    names = [
        f"{name}.{state}"
        for name in ("connect_unix_socket", "start_tls", "something_new")
        for state in ("started", "complete")
    ]
    library = kind.library

    class Telling(library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            for name in names:
                await tell(request, name)
            return library.Response(200)

    def respond(request: Any) -> Any:
        for name in names:
            tell(request, name)
        return library.Response(200)

    transport = Telling() if kind.is_async else kind.transport(respond)
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing, phases=True)
        await kind.call(client.get, "http://host/")
    assert set(_phases(recorder.one())) == {"pool_wait", "connect", "tls"}


# --- the peer ------------------------------------------------------------------------------------


async def test_the_peer_is_an_address(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Not the name that was asked for."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        url = server.url("/200").replace("127.0.0.1", "localhost")
        await kind.call(client.get, url)
    attributes = recorder.one().attributes or {}
    assert attributes["server.address"] == "localhost"
    assert attributes["network.peer.address"] == "127.0.0.1"
    assert attributes["network.peer.port"] == server.port


async def test_through_a_proxy(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """The peer is the proxy; what was asked for is the server behind it, which is told the span."""
    async with kind.client(proxy=server.url("")) as client:
        instrument(client, tracing=tracing)
        response = await kind.call(client.get, "http://behind.example/200")
    assert response.content == b"hello"
    span = recorder.one()
    attributes = span.attributes or {}
    assert attributes["url.full"] == "http://behind.example/200"
    assert (attributes["server.address"], attributes["server.port"]) == ("behind.example", 80)
    assert attributes["network.peer.address"] == "127.0.0.1"
    assert attributes["network.peer.port"] == server.port
    [traceparent] = server.requests[0].header("traceparent")
    assert f"{span.context.span_id:016x}" in traceparent


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets here")
async def test_over_a_unix_socket(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, tmp_path: Path
) -> None:
    """The peer is the path."""
    path = str(tmp_path / "api")
    await server.listen_at(path)
    async with kind.client(transport=kind.http_transport(uds=path)) as client:
        instrument(client, tracing=tracing)
        await kind.call(client.get, "http://api/200")
    attributes = recorder.one().attributes or {}
    assert attributes["server.address"] == "api"
    assert attributes["network.peer.address"] == path
    assert attributes["network.transport"] == "unix"
    assert "network.peer.port" not in attributes


class _Stream:
    """A connection as a transport shows it."""

    def __init__(self, address: object) -> None:
        self._address = address
        self.asked = 0

    def get_extra_info(self, name: str) -> object:
        assert name == "server_addr"
        self.asked += 1
        if isinstance(self._address, Exception):
            raise self._address
        return self._address


@pytest.mark.parametrize(
    ("address", "attributes"),
    [
        (("::1", 80, 0, 0), {"network.peer.address": "::1", "network.peer.port": 80}),
        ("/run/api", {"network.peer.address": "/run/api", "network.transport": "unix"}),
        (b"/run/api", {"network.peer.address": "/run/api", "network.transport": "unix"}),
        (None, {}),
        (OSError("not connected"), {}),
    ],
)
def test_peers(address: object, attributes: dict[str, object]) -> None:
    """An address, a socket's path, or nothing; asked for once per connection."""
    stream = _Stream(address)
    assert peer_of(stream) == attributes
    assert peer_of(stream) == attributes
    assert stream.asked == 1


class _Listed(list[str]):
    """A connection of a transport's own, which has no hash."""

    def get_extra_info(self, name: str) -> object:
        return ("::1", 80)


class _Slotted:
    """Another, which cannot be held weakly."""

    __slots__ = ()

    get_extra_info = _Listed.get_extra_info


@pytest.mark.parametrize("connection", [_Listed(), _Slotted()], ids=["no hash", "no weakref"])
async def test_a_connection_unlike_others(
    kind: Kind, tracing: Tracing, recorder: Recorder, connection: Any
) -> None:
    """It is asked all the same, and the span covers the body as always."""
    response = kind.library.Response(
        200, stream=kind.stream(b"hello"), extensions={"network_stream": connection}
    )
    async with kind.client(transport=kind.transport(lambda request: response)) as client:
        instrument(client, tracing=tracing)
        await kind.call(client.get, "http://host/")
    attributes = recorder.one().attributes or {}
    assert attributes["network.peer.address"] == "::1"
    assert attributes["http.response.body.size"] == 5
    assert tracing.statistics().faults == {}


# --- the protocol's version ----------------------------------------------------------------------


async def test_http2(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """The version is what was spoken, and the phases are told of it as well."""
    async with _http2_server() as url, kind.client(http1=False, http2=True) as client:
        instrument(client, tracing=tracing, phases=True)
        response = await kind.call(client.get, url)
        assert (response.http_version, response.content) == ("HTTP/2", b"hello")
    attributes = recorder.one().attributes or {}
    assert attributes["network.protocol.version"] == "2"
    assert attributes["http.response.body.size"] == 5
    assert {"connect", "send", "wait", "receive"} <= set(_phases(recorder.one()))


@asynccontextmanager
async def _http2_server() -> AsyncIterator[str]:
    """Answers every request, without TLS."""
    tasks: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(writer)
        config = h2.config.H2Configuration(client_side=False)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    connection.send_headers(event.stream_id, [(":status", "200")])
                    connection.send_data(event.stream_id, b"hello", end_stream=True)
            writer.write(connection.data_to_send())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in tasks:
            writer.close()
            await writer.wait_closed()
        await server.wait_closed()

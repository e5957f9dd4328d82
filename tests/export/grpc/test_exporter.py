"""The exporter on real sockets, against servers that do what servers should not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from h2.settings import SettingCodes, Settings

from asynctrace.export.contracts import Delivered, Undelivered
from asynctrace.export.grpc import link
from asynctrace.export.grpc.connection import SLICE
from asynctrace.export.grpc.exporter import OtlpGrpcExporter
from asynctrace.export.grpc.request import Endpoint
from tests.support.batches import batch
from tests.support.collector import refusing_port
from tests.support.grpc_collector import Certificates
from tests.support.grpc_exporter import grpc_exporter, send, send_once
from tests.support.h2_server import H2Server, Peer, go_on, goaway, prefixed, silent
from tests.support.heartbeat import SteadyHeartbeat
from tests.support.stopwatch import in_time

LARGE = 2**21


async def until(event: threading.Event) -> None:
    """Wait for what happens in a server's thread."""
    assert await asyncio.to_thread(event.wait, 10)


# --- leaving servers


async def test_a_server_that_leaves_between_calls_is_left() -> None:
    """GOAWAY or a plain close: the next call takes a new connection and nothing is lost."""
    left = threading.Event()

    def leave(peer: Peer) -> None:
        peer.greet()
        peer.answer(peer.read_call())
        peer.sock.sendall(goaway(1))
        peer.wait_for_hang_up()
        left.set()

    def close(peer: Peer) -> None:
        peer.greet()
        peer.answer(peer.read_call())

    with H2Server(leave, close) as server:
        async with grpc_exporter(server.url) as exporter:
            assert await send(exporter) == Delivered()
            await until(left)
            assert repr(exporter).endswith(" idle>")
            assert await send(exporter) == Delivered()
            while repr(exporter).endswith(" connected>"):
                await asyncio.sleep(0.001)
            assert await send(exporter) == Delivered()
        assert server.connections == 3


async def test_a_call_that_the_leaving_server_has_begun_is_answered() -> None:
    """Servers with a maximum connection age do this all day; the spans are not sent twice."""

    def leave(peer: Peer) -> None:
        peer.greet()
        call = peer.read_call()
        peer.sock.sendall(goaway(2**31 - 1) + goaway(call.stream))
        peer.answer(call)

    with H2Server(leave) as server:
        async with grpc_exporter(server.url) as exporter:
            assert await send(exporter) == Delivered()
            assert server.connections == 1
            assert await send(exporter) == Delivered()
        assert server.connections == 2


def refuse(peer: Peer) -> None:
    """Leave without having looked at the call."""
    peer.greet()
    peer.read_headers()
    peer.sock.sendall(goaway(0, 11, b"too_many_pings"))
    peer.wait_for_hang_up()


async def test_a_call_that_the_leaving_server_has_not_begun_is_made_again_at_once() -> None:
    """Elsewhere, once: a server that never begins any is unreachable, and has said why."""
    with H2Server(refuse) as server:
        assert await send_once(server.url) == Delivered()
        assert server.connections == 2
    with H2Server(then=refuse) as server:
        outcome = await send_once(server.url)
        assert isinstance(outcome, Undelivered)
        assert (outcome.reason, outcome.retryable) == ("unreachable", True)
        assert "too_many_pings" in outcome.message
        assert server.connections == 2


# --- bad answers


def reset(peer: Peer) -> None:
    peer.greet()
    peer.h2.reset_stream(peer.read_call().stream, 7)
    peer.flush()
    go_on(peer)


def truncated(peer: Peer) -> None:
    """The message comes, the status does not."""
    peer.greet()
    call = peer.read_call()
    peer.h2.send_headers(call.stream, [(":status", "200")])
    peer.h2.send_data(call.stream, prefixed(b"abc")[:-1])
    peer.flush()


def without_status(peer: Peer) -> None:
    peer.greet()
    peer.h2.send_headers(peer.read_call().stream, [(":status", "200")], end_stream=True)
    peer.flush()
    go_on(peer)


def oversized(peer: Peer) -> None:
    peer.greet()
    call = peer.read_call()
    peer.h2.send_headers(call.stream, [(":status", "200")])
    while True:
        while peer.h2.local_flow_control_window(call.stream) >= 1000:
            peer.h2.send_data(call.stream, b"x" * 1000)
        peer.flush()
        if not peer.receive():
            return


def garbage(peer: Peer) -> None:
    peer.greet()
    peer.read_call()
    peer.sock.sendall(b"\0\0\1\4\0\0\0\0\0garbage")
    peer.wait_for_hang_up()


def http1(peer: Peer) -> None:
    peer.sock.recv(100)
    peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    with contextlib.suppress(OSError):
        peer.wait_for_hang_up()


def close_at_once(peer: Peer) -> None:
    """Nothing is said at all."""


def close_in_the_request(peer: Peer) -> None:
    peer.greet()
    peer.read_headers()


@pytest.mark.parametrize(
    ("behaviour", "reason", "retryable", "words"),
    [
        (reset, "grpc_unavailable", True, "reset the call with code 7"),
        (truncated, "unreachable", True, "closed"),
        (without_status, "grpc_unknown", False, "without a gRPC status: HTTP 200"),
        (oversized, "grpc_internal", False, "longer than 65536 bytes"),
        (garbage, "unreachable", True, "does not keep to HTTP/2"),
        (http1, "unreachable", True, "port 4317"),
        (close_at_once, "unreachable", True, ""),
        (close_in_the_request, "unreachable", True, ""),
    ],
)
async def test_a_bad_answer_is_an_outcome_and_the_next_call_is_served(
    behaviour: object, reason: str, retryable: bool, words: str
) -> None:
    """Whatever came, it is told as it was, and does no harm to what follows."""
    with H2Server(behaviour) as server:  # type: ignore[arg-type]
        async with grpc_exporter(server.url) as exporter:
            outcome = await send(exporter, batch(size=LARGE))
            assert isinstance(outcome, Undelivered)
            assert (outcome.reason, outcome.retryable) == (reason, retryable)
            assert words in outcome.message
            assert await send(exporter) == Delivered()
            assert server.connections == (1 if behaviour in {reset, without_status} else 2)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_flood_of_frames_is_cut(reads: bool) -> None:
    """Each ping would have an answer, which a server that does not read would have us keep."""

    def flood(peer: Peer) -> None:
        peer.greet()
        peer.sock.setblocking(reads)
        pings = b"\0\0\x08\6\0\0\0\0\x0012345678" * 1000
        while True:
            with contextlib.suppress(BlockingIOError):
                peer.sock.sendall(pings)
            if reads:
                peer.sock.recv(2**17)

    with H2Server(flood, receive_buffer=4096) as server:
        async with grpc_exporter(server.url) as exporter, SteadyHeartbeat():
            outcome = await send(exporter, timeout=20)
        assert isinstance(outcome, Undelivered)
        assert outcome.message == "the server floods the connection with frames"


# --- slow ones


async def test_a_silent_server_is_cut_at_the_deadline() -> None:
    """The call is cancelled; as the connection may be dead, the next call takes another."""
    hung_up = threading.Event()

    def keep_silent(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            silent(peer)
        hung_up.set()

    with H2Server(keep_silent) as server:
        async with grpc_exporter(server.url) as exporter:
            with pytest.raises(TimeoutError):
                await send(exporter, timeout=0.1)
            assert repr(exporter).endswith(" idle>")
            await until(hung_up)
            assert await send(exporter) == Delivered()


@pytest.mark.parametrize(
    ("window", "size"), [(None, LARGE), (2**24, 4 * LARGE)], ids=["flow control", "full buffers"]
)
async def test_a_slow_reader_holds_up_nobody(window: int | None, size: int) -> None:
    """It gets a large request as fast as it reads; the loop goes on, and no copy piles up."""

    def read_slowly(peer: Peer) -> None:
        if window is not None:
            values = {SettingCodes.INITIAL_WINDOW_SIZE: window}
            peer.h2.local_settings = Settings(client=False, initial_values=values)
        peer.greet()
        if window is not None:
            peer.h2.increment_flow_control_window(window)
            peer.flush()
        peer.sock = _Slow(peer.sock, peer.stopping)  # type: ignore[assignment]
        call = peer.read_call()
        assert len(call.message) > LARGE
        peer.answer(call)

    with H2Server(read_slowly, receive_buffer=4096) as server:
        async with grpc_exporter(server.url) as exporter, SteadyHeartbeat():
            sending, most = asyncio.ensure_future(send(exporter, batch(size=size))), 0
            while not sending.done():
                if exporter._link is not None:
                    most = max(most, exporter._link._transport.get_write_buffer_size())
                await asyncio.sleep(0.001)
            assert await sending == Delivered()
        assert most <= 3 * SLICE


class _Slow:
    """A socket that gives little at a time, and takes its time (not that of the test's loop)."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self._sock = sock
        self._stopping = stopping
        self.sendall = sock.sendall

    def recv(self, size: int) -> bytes:
        self._stopping.wait(0.0005)
        return self._sock.recv(min(size, 2**14))


async def test_closing_does_not_wait_for_the_server() -> None:
    """It gets a goodbye, and 50 ms to hang up as well."""
    parted = threading.Event()

    def stay(peer: Peer) -> None:
        peer.greet()
        peer.answer(peer.read_call())
        with contextlib.suppress(OSError):
            peer.wait_for_hang_up()
        parted.set()
        peer.stopping.wait()

    with H2Server(stay) as server:
        async with grpc_exporter(server.url) as exporter:
            await send(exporter)
            with in_time(link.FAREWELL):
                await exporter.close()
            await until(parted)
            await exporter.close()
            assert await send(exporter, timeout=5) == Delivered()


async def test_pings_are_answered_between_calls() -> None:
    """A server that looks whether an idle client lives finds it alive."""
    ponged = threading.Event()

    def look(peer: Peer) -> None:
        peer.greet()
        peer.answer(peer.read_call())
        peer.h2.ping(b"12345678")
        peer.flush()
        peer.wait_for_pong()
        ponged.set()
        peer.wait_for_hang_up()

    with H2Server(look) as server:
        async with grpc_exporter(server.url) as exporter:
            await send(exporter)
            await until(ponged)


# --- connecting


async def test_nobody_listens() -> None:
    """That is an outcome, to be tried again."""
    with refusing_port() as port:
        outcome = await send_once(f"http://127.0.0.1:{port}")
    assert isinstance(outcome, Undelivered)
    assert (outcome.reason, outcome.retryable) == ("unreachable", True)
    assert outcome.message


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the resolver answers, to be filled by the test."""
    found: list[str] = []

    def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port)) for found in addresses]

    addresses = found
    monkeypatch.setattr("asynctrace.export.grpc.dial.socket.getaddrinfo", getaddrinfo)
    return found


async def test_the_address_that_works_is_found_and_remembered(addresses: list[str]) -> None:
    """All are tried; the one that worked comes first from then on."""
    addresses += ["127.0.0.3", "127.0.0.1"]
    with H2Server() as server:
        async with grpc_exporter(f"http://collector.test:{server.port}") as exporter:
            for _ in range(2):
                assert await send(exporter) == Delivered()
                await exporter.close()
            assert repr(exporter._dialer) == f"<Dialer collector.test:{server.port}>"
            assert exporter._dialer._good == "127.0.0.1"
            addresses[:] = ["127.0.0.3"]
            outcome = await send(exporter)
            assert isinstance(outcome, Undelivered)
            addresses[:] = []
            outcome = await send(exporter)
            assert isinstance(outcome, Undelivered)
            assert outcome.message == "collector.test has no address"


@pytest.fixture
def resolver_gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A resolver that answers when the gate is opened."""
    gate = threading.Event()

    def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        gate.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("asynctrace.export.grpc.dial.socket.getaddrinfo", getaddrinfo)
    yield gate
    gate.set()


async def test_a_resolver_that_hangs_is_waited_for_once(resolver_gate: threading.Event) -> None:
    """The attempt ends at its deadline; threads do not pile up; when it answers all is well."""
    with H2Server() as server:
        async with grpc_exporter(f"http://collector.test:{server.port}") as exporter:
            with pytest.raises(TimeoutError):
                await send(exporter, timeout=0.05)
            outcome = await send(exporter)
            assert isinstance(outcome, Undelivered)
            assert outcome.message == "the last look-up of collector.test has not returned"
            assert outcome.retryable
            resolver_gate.set()
            async with asyncio.timeout(5):
                while isinstance(await send(exporter), Undelivered):
                    await asyncio.sleep(0.001)


async def test_no_thread_for_the_resolver_is_no_dead_end(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt fails, the next one may succeed; what is known needs no look-up."""
    addresses += ["127.0.0.1"]
    with H2Server() as server:
        async with grpc_exporter(f"http://collector.test:{server.port}") as exporter:
            with monkeypatch.context() as patch:

                def refuse_thread(*_: object) -> None:
                    raise RuntimeError("can't start new thread")

                patch.setattr("asynctrace._threads.start", refuse_thread)
                with pytest.raises(RuntimeError):
                    await send(exporter)
            assert await send(exporter) == Delivered()
            await exporter.close()
            monkeypatch.setattr("asynctrace._threads.start", refuse_thread)
            assert await send(exporter) == Delivered()


def server_tls(certificates: Certificates, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
async def test_tls_without_http2_is_refused(
    certificates: Certificates, protocols: tuple[str, ...]
) -> None:
    """Both sides have to have agreed on it; the outcome says so."""
    with H2Server(tls=server_tls(certificates, *protocols)) as server:
        outcome = await send_once(server.url, certificate=certificates.path("ca.pem"))
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "unreachable"
    assert "ALPN" in outcome.message


async def test_plain_text_to_a_tls_server(certificates: Certificates) -> None:
    """The most common of mistakes but one."""
    with H2Server(tls=server_tls(certificates, "h2")) as server:
        url = server.url.replace("https:", "http:")
        outcome = await send_once(url)
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "unreachable"


async def test_tls_to_a_plain_server() -> None:
    """The other way round; whoever reads the log knows what to change."""
    with H2Server() as server:
        outcome = await send_once(server.url.replace("http:", "https:"))
    assert isinstance(outcome, Undelivered)
    assert outcome.message == "the server does not speak TLS: the endpoint begins with http://"


async def test_a_handshake_that_nobody_answers_ends_at_the_deadline() -> None:
    """It is cut, and leaves nothing open."""

    def hang(peer: Peer) -> None:
        peer.stopping.wait()

    with H2Server(then=hang) as server:
        async with grpc_exporter(server.url.replace("http:", "https:")) as exporter:
            with pytest.raises(TimeoutError):
                await send(exporter, timeout=0.2)


async def test_large_requests_over_tls_and_many_calls(certificates: Certificates) -> None:
    """One connection, whatever their size."""
    with H2Server(tls=server_tls(certificates, "h2")) as server:
        async with grpc_exporter(server.url, certificate=certificates.path("ca.pem")) as exporter:
            for size in (1, LARGE, 1):
                assert await send(exporter, batch(size=size)) == Delivered()
        assert server.connections == 1


# --- loops


def test_each_loop_has_its_own_connection() -> None:
    """The connection of a loop that is gone is neither used nor touched."""
    with H2Server() as server:
        exporter = OtlpGrpcExporter(Endpoint(url=server.url, headers={}), None)

        async def once(*, close: bool) -> None:
            assert await send(exporter) == Delivered()
            if close:
                await exporter.close()

        standing = asyncio.new_event_loop()
        standing.run_until_complete(once(close=False))
        asyncio.run(once(close=True))
        assert server.connections == 2
        asyncio.run(exporter.close())
        (foreign,) = exporter._foreign
        assert repr(foreign) == "<Link <Connection idle>>"
        standing.run_until_complete(foreign.close())
        standing.close()
        foreign.abort()

"""Receivers that trickle, or take in trickles: what blocks at the exit ends at its deadline."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from asynctrace.export import blocking
from asynctrace.export.contracts import Delivered, Outcome, Undelivered
from asynctrace.export.grpc.exporter import OtlpGrpcExporter
from asynctrace.export.grpc.request import Endpoint as GrpcEndpoint
from asynctrace.export.otlp_http import Endpoint, OtlpHttpExporter
from tests.support.batches import batch
from tests.support.collector import refusing_port
from tests.support.grpc_collector import Certificates
from tests.support.stopwatch import in_time

LIMIT = 0.4
PACE = 0.05
"""Seconds between two bytes: far less than the limit."""

Serve = Callable[[socket.socket, threading.Event], None]


@contextlib.contextmanager
def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Listen on a port, and have `serve` do what it likes with the one connection."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            sock = listener.accept()[0]
            if tls is not None:
                sock = tls.wrap_socket(sock, server_side=True)
            with sock:
                serve(sock, stop)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        listener.close()
        thread.join()


def trickle(before: bytes, drops: bytes) -> Serve:
    """Send `before` at once and then `drops` byte by byte, over and over."""

    def serve(sock: socket.socket, stop: threading.Event) -> None:
        sock.sendall(before)
        number = 0
        while not stop.wait(PACE):
            sock.sendall(drops[number % len(drops) :][:1])
            number += 1

    return serve


def sip(sock: socket.socket, stop: threading.Event) -> None:
    """Read a little now and then, and say nothing."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    while not stop.wait(PACE):
        sock.recv(4096)


def ends_in_time(export: Callable[[float], Outcome]) -> None:
    with in_time(LIMIT):
        outcome = export(time.monotonic() + LIMIT)
    assert isinstance(outcome, Undelivered)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.issue(tmp_path_factory.mktemp("certificates"))


HTTP = {
    "status": trickle(b"", b"H"),
    "headers": trickle(b"HTTP/1.1 200 OK\r\n", b"X"),
    "body": trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"b"),
    "chunks": trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nb\r\n"),
    "informational": trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "request": sip,
}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("where", HTTP)
def test_over_http(where: str, tls: bool, certificates: Certificates) -> None:
    """In the status line, the headers, the body or the request itself, with and without TLS."""
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))
    with serving(HTTP[where], context) as port:
        endpoint = Endpoint(
            url=f"{'https' if tls else 'http'}://localhost:{port}/v1/traces",
            headers={},
            certificate=certificates.path("ca.pem"),
        )
        exporter = OtlpHttpExporter(endpoint, endpoint.tls_context())
        sent = batch(64, size=2**17) if where == "request" else batch()
        ends_in_time(lambda deadline: exporter.export_at_exit(sent, deadline))


SETTINGS = b"\0\0\0\4\0\0\0\0\0"
PINGS = b"\0\0\x08\6\0\0\0\0\0" + bytes(8)

GRPC = {
    "frames": trickle(SETTINGS, PINGS),
    "preface": trickle(b"", SETTINGS),
    "request": sip,
}


@pytest.mark.parametrize("where", GRPC)
def test_over_grpc(where: str) -> None:
    """Frames that keep the connection alive and answer nothing."""
    with serving(GRPC[where]) as port:
        exporter = OtlpGrpcExporter(GrpcEndpoint(url=f"http://127.0.0.1:{port}", headers={}), None)
        sent = batch(64, size=2**17) if where == "request" else batch()
        ends_in_time(lambda deadline: exporter.export_at_exit(sent, deadline))


def test_an_answer_in_pieces_that_comes_in_time_counts() -> None:
    """The limit is for the whole, not a reason to give up earlier."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def serve(sock: socket.socket, stop: threading.Event) -> None:
        for byte in answer:
            sock.sendall(bytes([byte]))
            stop.wait(0.002)
        sock.recv(65536)
        stop.wait()

    with serving(serve) as port:
        endpoint = Endpoint(url=f"http://127.0.0.1:{port}/v1/traces", headers={})
        exporter = OtlpHttpExporter(endpoint, None)
        assert exporter.export_at_exit(batch(), time.monotonic() + 5) == Delivered()


def test_every_address_is_tried() -> None:
    """The first that answers is taken; without one, the error of the last is told."""
    with serving(lambda sock, stop: None) as port:
        sock = blocking.connect(["127.0.0.3", "127.0.0.1"], port, time.monotonic() + 5)
        assert sock.getpeername() == ("127.0.0.1", port)
        sock.close()
    with refusing_port() as port, pytest.raises(ConnectionRefusedError):
        blocking.connect(["127.0.0.3", "127.0.0.1"], port, time.monotonic() + 5)
    with pytest.raises(OSError, match="no address is known"):
        blocking.connect([], 4318, time.monotonic() + 5)


def test_nothing_is_tried_past_the_deadline() -> None:
    """Not even to connect."""
    with pytest.raises(TimeoutError):
        blocking.connect(["127.0.0.1"], 4318, time.monotonic() - 1)


def test_the_repr_tells_the_time_left() -> None:
    """One glance in a debugger."""
    one, other = socket.socketpair()
    with one, other:
        assert "s left" in repr(blocking.DeadlineSocket(one, time.monotonic() + 1))

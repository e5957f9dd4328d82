"""Without a loop: the exit of the process, and what a forked child inherits."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asynctrace.export.contracts import Delivered, Undelivered
from asynctrace.export.grpc import blocking
from asynctrace.export.grpc.exporter import OtlpGrpcExporter, tls_context
from asynctrace.export.grpc.request import Endpoint
from tests.support.batches import batch
from tests.support.collector import refusing_port
from tests.support.grpc_collector import Certificates, GrpcCollector
from tests.support.h2_server import H2Server, Peer, goaway, silent
from tests.support.programs import Ended, run_program
from tests.support.stopwatch import in_time


def exporter(url: str, **settings: str) -> OtlpGrpcExporter:
    endpoint = Endpoint(url=url, headers={}, **settings)  # type: ignore[arg-type]
    return OtlpGrpcExporter(endpoint, tls_context(endpoint) if endpoint.secure else None)


def soon() -> float:
    return time.monotonic() + 5


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_spans_leave_without_a_loop(collector: GrpcCollector, compression: str) -> None:
    """Large ones, too; localhost needs no look-up."""
    sent = batch(64, size=2**15)
    made = exporter(collector.url(), compression=compression)
    assert made.export_at_exit(sent, soon()) == Delivered()
    collector.wait_for_requests(1)


def test_they_leave_over_tls(collector: GrpcCollector, certificates: Certificates) -> None:
    """With the client's certificate, and the server's name checked."""
    made = exporter(
        collector.url("mutual"),
        certificate=certificates.path("ca.pem"),
        client_certificate=certificates.path("client.pem"),
        client_key=certificates.path("client.key"),
    )
    assert made.export_at_exit(batch(), soon()) == Delivered()
    (request,) = collector.wait_for_requests(1)
    assert request["identities"] == ["shop@example.org"]


def test_a_server_without_http2_over_tls_is_refused(certificates: Certificates) -> None:
    """As in the life of the loop."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))
    with H2Server(tls=context) as server:
        made = exporter(server.url, certificate=certificates.path("ca.pem"))
        outcome = made.export_at_exit(batch(), soon())
    assert isinstance(outcome, Undelivered)
    assert "ALPN" in outcome.message


def test_an_address_that_was_reached_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up cannot be cut short, so a name that was never reached is not looked up."""

    def resolve(host: str, port: int, **_: object) -> list[object]:
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    with H2Server() as server:
        made = exporter(f"http://collector.test:{server.port}")
        outcome = made.export_at_exit(batch(), soon())
        assert outcome == Undelivered("unreachable", "collector.test was never reached")
        with monkeypatch.context() as patch:
            patch.setattr("asynctrace.export.grpc.dial.socket.getaddrinfo", resolve)

            async def once() -> None:
                assert await made.export(batch(), soon()) == Delivered()
                await made.close()

            asyncio.run(once())
        assert made.export_at_exit(batch(), soon()) == Delivered()


def close_at_once(peer: Peer) -> None:
    """Nothing is said at all."""


def close_instead_of_answering(peer: Peer) -> None:
    peer.greet()
    peer.read_call()
    peer.sock.shutdown(socket.SHUT_WR)
    peer.stopping.wait()


def talk(peer: Peer) -> None:
    peer.greet()
    while not peer.stopping.wait(0.02):
        peer.h2.ping(b"12345678")
        peer.flush()


def leave(peer: Peer) -> None:
    peer.greet()
    peer.read_headers()
    peer.sock.sendall(goaway(0))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (silent, "timeout"),
        (talk, "timeout"),
        (close_at_once, "unreachable"),
        (close_instead_of_answering, "unreachable"),
        (leave, "unreachable"),
    ],
)
def test_the_exit_is_not_held_up(behaviour: Callable[[Peer], None], reason: str) -> None:
    """By no server, past the deadline."""
    with H2Server(then=behaviour) as server, in_time(0.2):
        outcome = exporter(server.url).export_at_exit(batch(size=2**21), time.monotonic() + 0.2)
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == reason


def test_after_the_deadline_nothing_is_sent() -> None:
    """Also when the connection itself came in time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        headers = Endpoint(url="http://a:1", headers={}).call_headers()
        with pytest.raises(TimeoutError):
            blocking.call(ours, headers, b"", time.monotonic() - 1)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_nobody_listens_at_the_exit() -> None:
    """That is an outcome."""
    with refusing_port() as port:
        outcome = exporter(f"http://127.0.0.1:{port}").export_at_exit(batch(), soon())
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "unreachable"
    assert not outcome.retryable


# --- processes


def run(source: str, url: str) -> list[str]:
    """Run a program that prints the ids of its spans."""
    ended: Ended = run_program(
        source, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_ENDPOINT=url
    )
    assert (ended.code, ended.err) == (0, "")
    return ended.out.split()


BEGIN = """
import asyncio, os, sys
import asynctrace

def work(tracing):
    with tracing.get_tracer("t").start_as_current_span("work") as span:
        # In one piece, or those of a forked child come in the middle.
        os.write(1, b"%016x\\n" % span.get_span_context().span_id)
"""


def test_a_program_that_ends_without_shutdown_delivers(collector: GrpcCollector) -> None:
    """Spans that are ready leave while the interpreter exits."""
    source = f"""{BEGIN}
async def main():
    tracing = await asynctrace.init()
    for _ in range(3):
        work(tracing)

asyncio.run(main())
"""
    ids = run(source, collector.url())
    assert len(ids) == 3
    collector.wait_for_spans(set(ids))


def test_a_fork_leaves_both_sides_clean(collector: GrpcCollector) -> None:
    """With a connection open: each delivers its own spans, once, and the parent's connection
    goes on."""
    source = f"""{BEGIN}
async def main():
    async with asynctrace.init() as tracing:
        work(tracing)
        await tracing.force_flush()
        work(tracing)
        pid = os.fork()
        work(tracing)
        if pid == 0:
            tracing.tracer_provider.force_flush(5000)
            os._exit(0)
        await asyncio.to_thread(os.waitpid, pid, 0)
        work(tracing)

asyncio.run(main())
"""
    ids = run(source, collector.url())
    assert len(ids) == 5
    collector.wait_for_spans(set(ids))
    assert len({request["peer"] for request in collector.requests}) == 2


def test_neither_grpcio_nor_aiohttp_is_needed(collector: GrpcCollector) -> None:
    """They cost a third of a second to import; spans travel without them."""
    source = """
import asyncio, sys
import asynctrace

async def main():
    async with asynctrace.init() as tracing:
        with asynctrace.span("work"):
            pass
    print(*{"grpc", "aiohttp", "httpx", "google.protobuf"} & set(sys.modules))

asyncio.run(main())
"""
    assert run(source, collector.url()) == []
    collector.wait_for_requests(1)


def test_a_resolver_that_hangs_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    """Neither the shutdown nor the end of the process waits for its thread."""
    source = """
import asyncio, socket, threading, time
import asynctrace
from tests.support.stopwatch import in_time

def hang(*args, **kwargs):
    threading.Event().wait()

socket.getaddrinfo = hang

async def main():
    tracing = await asynctrace.init(resource_detectors=())
    with asynctrace.span("work"):
        pass
    with in_time(0.3):
        report = await tracing.shutdown(timeout=0.3)
    print(report.pending, sum(report.dropped.values()))

asyncio.run(main())
print(time.time())
"""
    ended = run_program(
        source,
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector.test:4317",
    )
    assert ended.code == 0, ended.err
    told, at = ended.out.splitlines()
    assert told == "0 1"
    assert ended.ended_at - float(at) < 2

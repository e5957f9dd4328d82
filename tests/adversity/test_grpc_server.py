"""What answers on the port for gRPC is odd: a proxy, a web server, one that breaks off."""

from __future__ import annotations

import pytest

from asynctrace.initialization import init
from tests.adversity.test_collector import end_spans
from tests.support.h2_server import Behaviour, H2Server, Peer, go_on, prefixed
from tests.support.heartbeat import SteadyHeartbeat

pytestmark = pytest.mark.slow  # each waits for real deadlines

Headers = list[tuple[str, str]]


def web(status: int, *headers: tuple[str, str], body: bytes = b"<h1>Nope</h1>") -> Behaviour:
    """A web server, or a proxy with an answer of its own."""

    def answer(peer: Peer) -> None:
        peer.greet()
        call = peer.read_call()
        peer.h2.send_headers(call.stream, [(":status", str(status)), *headers])
        peer.h2.send_data(call.stream, body, end_stream=True)
        peer.flush()
        go_on(peer)

    return answer


def with_message(message: bytes, *trailers: tuple[str, str]) -> Behaviour:
    """A status of gRPC behind a message that is none."""

    def answer(peer: Peer) -> None:
        peer.greet()
        call = peer.read_call()
        peer.h2.send_headers(call.stream, [(":status", "200"), ("content-type", "image/png")])
        peer.h2.send_data(call.stream, message)
        peer.h2.send_headers(call.stream, list(trailers), end_stream=True)
        peer.flush()
        go_on(peer)

    return answer


def endless(peer: Peer) -> None:
    """An answer that goes on for as long as somebody takes it."""
    peer.greet()
    call = peer.read_call()
    peer.h2.send_headers(call.stream, [(":status", "200")])
    while True:
        while peer.h2.local_flow_control_window(call.stream) >= 1000:
            peer.h2.send_data(call.stream, b"x" * 1000)
        peer.flush()
        if not peer.receive():
            return


HTML = ("content-type", "text/html")
GARBAGE = prefixed(b"\xff\xff\xff")

REFUSALS = {
    "redirect": (web(307, ("location", "http://127.0.0.1:9/")), "grpc_unknown"),
    "html": (web(200, HTML), "grpc_unknown"),
    "not found": (web(404, HTML), "grpc_unimplemented"),
    "oversized": (endless, "grpc_internal"),
    "garbage": (with_message(GARBAGE, ("grpc-status", "3")), "grpc_invalid_argument"),
    "no such status": (with_message(b"", ("grpc-status", "many")), "grpc_unknown"),
}


@pytest.mark.parametrize(("behaviour", "reason"), REFUSALS.values(), ids=REFUSALS)
async def test_odd_refusals_are_counted(behaviour: Behaviour, reason: str) -> None:
    """One call, told as what it was, no stall; the next batch goes its way."""
    with H2Server(behaviour) as server:
        async with (
            SteadyHeartbeat(),
            init(endpoint=server.url, protocol="grpc", set_global=False) as tracing,
        ):
            end_spans(tracing, 5)
            first = await tracing.force_flush(2)
            end_spans(tracing, 5)
            second = await tracing.force_flush(2)
        assert (first.failed, second.exported) == (5, 5)
        assert (first.exporters["otlp"].last_error or "").startswith(reason)


TAKEN = {
    "garbage": with_message(GARBAGE, ("grpc-status", "0")),
    "truncated": with_message(prefixed(b"abc")[:-1], ("grpc-status", "0")),
    "wrong type": with_message(b"\x89PNG", ("grpc-status", "0")),
    "no message": with_message(b"", ("grpc-status", "0")),
}


@pytest.mark.parametrize("behaviour", TAKEN.values(), ids=TAKEN)
async def test_odd_acceptances_are_deliveries(behaviour: Behaviour) -> None:
    """The server has said yes; sending again would deliver twice."""
    with H2Server(behaviour) as server:
        async with init(endpoint=server.url, protocol="grpc", set_global=False) as tracing:
            end_spans(tracing, 5)
            report = await tracing.force_flush(2)
            assert (report.exported, tracing.statistics().exporters["otlp"].retries) == (5, 0)


def cut_in_the_request(peer: Peer) -> None:
    peer.greet()
    peer.read_headers()


def cut_in_the_answer(peer: Peer) -> None:
    peer.greet()
    call = peer.read_call()
    peer.h2.send_headers(call.stream, [(":status", "200")])
    peer.h2.send_data(call.stream, prefixed(b"abc")[:-1])
    peer.flush()


def not_http2(peer: Peer) -> None:
    peer.sock.sendall(b"\0\0\1\4\0\0\0\0\0garbage")


@pytest.mark.parametrize("behaviour", [cut_in_the_request, cut_in_the_answer, not_http2])
async def test_a_call_that_breaks_off_is_made_again(behaviour: Behaviour) -> None:
    """On another connection; the spans arrive, and are reported once."""
    with H2Server(behaviour) as server:
        async with init(endpoint=server.url, protocol="grpc", set_global=False) as tracing:
            end_spans(tracing, 5, size=2**18)
            report = await tracing.force_flush(10)
        assert report.exported == 5
        assert server.connections == 2

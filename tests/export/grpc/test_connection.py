"""HTTP/2 without I/O: whatever the windows, however the bytes are cut, whoever answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, SettingsAcknowledged, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from hypothesis import example, given
from hypothesis import strategies as st

from asynctrace.export.grpc.connection import Connection
from asynctrace.export.grpc.outcome import Answer, Code, Lost, Result
from asynctrace.export.grpc.request import Endpoint
from asynctrace.export.grpc.response import MAX_ANSWER
from tests.support.h2_server import goaway, prefixed

ENDPOINT = Endpoint(url="http://collector:4317", headers={"tenant": "a"})
HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0")]
REFUSED = [("grpc-status", "3"), ("grpc-message", "no%20good")]


def server(**settings: int) -> H2Connection:
    made = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    values = {SettingCodes[name]: value for name, value in settings.items()}
    made.local_settings = Settings(client=False, initial_values=values)
    made.max_inbound_frame_size = made.local_settings.max_frame_size
    made.initiate_connection()
    return made


def begin(connection: Connection, message: bytes = b"\0\0\0\0\1x") -> None:
    connection.begin(ENDPOINT.call_headers(), message)


def answered(connection: Connection, data: Iterable[bytes]) -> Result | None:
    for piece in data:
        connection.receive(piece)
        connection.bytes_to_send(0)
    return connection.result


# --- what the server gets


@example(size=100, window=1, frame=2**14, limit=1, granted=1000)
@given(
    size=st.integers(1, 200_000),
    window=st.integers(1, 2**17),
    frame=st.integers(2**14, 2**17),
    limit=st.integers(1000, 2**18),
    granted=st.integers(1000, 2**17),
)
def test_a_message_arrives_whole_whatever_the_windows(
    size: int, window: int, frame: int, limit: int, granted: int
) -> None:
    """In any windows, frames and slices; nothing is sent that was not granted."""
    peer = server(INITIAL_WINDOW_SIZE=window, MAX_FRAME_SIZE=frame)
    connection, message = Connection(), bytes(range(256)) * (size // 256) + bytes(size % 256)
    connection.receive(peer.data_to_send())
    begin(connection, message)
    body, ended = b"", False
    while not ended:
        before = len(body)
        events = peer.receive_data(connection.bytes_to_send(limit))
        for event in events:
            if isinstance(event, DataReceived):
                body += event.data
            ended |= isinstance(event, StreamEnded)
        assert len(body) - before <= limit
        # h2 would raise if more came than it has granted.
        if not ended and not connection.has_more:
            peer.increment_flow_control_window(granted)
            peer.increment_flow_control_window(granted, 1)
            connection.receive(peer.data_to_send())
    assert body == message


def test_a_call_is_what_grpc_prescribes() -> None:
    """Method, path, content type, metadata; and no server may push to us."""
    peer, connection = server(), Connection()
    begin(connection)
    events = peer.receive_data(connection.bytes_to_send(100))
    (request,) = [event for event in events if isinstance(event, RequestReceived)]
    assert dict(request.headers) == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        ":authority": "collector:4317",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity,gzip,deflate",
        "user-agent": "asynctrace",
        "tenant": "a",
    }
    assert peer.remote_settings.enable_push == 0


# --- what we make of the answer


def plain(peer: H2Connection) -> bytes:
    peer.send_headers(1, HEADERS)
    peer.send_data(1, prefixed(b"\x0a\x02\x08\x03"))
    peer.send_headers(1, OK, end_stream=True)
    return peer.data_to_send()


def refused(peer: H2Connection) -> bytes:
    peer.send_headers(1, HEADERS + REFUSED, end_stream=True)
    return peer.data_to_send()


def leaving(peer: H2Connection) -> bytes:
    return goaway(2**31 - 1, debug=b"age") + plain(peer) + goaway(1, debug=b"age")


def left(peer: H2Connection) -> bytes:
    return goaway(0, 11, b"too_many_pings")


def reset(peer: H2Connection) -> bytes:
    peer.reset_stream(1, ErrorCodes.REFUSED_STREAM)
    return peer.data_to_send()


def pinging(peer: H2Connection) -> bytes:
    peer.ping(b"anybody?")
    return peer.data_to_send() + plain(peer)


def then_garbage(peer: H2Connection) -> bytes:
    return plain(peer) + b"\0\0\1\4\0\0\0\0\0garbage as long as a frame's header"


def garbage_first(peer: H2Connection) -> bytes:
    return b"\0\0\1\4\0\0\0\0\0X" + plain(peer)


def http1(peer: H2Connection) -> bytes:
    return b"HTTP/1.1 400 Bad Request\r\n\r\n"


ANSWER = Answer(Code.OK, body=b"\x0a\x02\x08\x03")
ANSWERS: list[tuple[Callable[[H2Connection], bytes], object]] = [
    (plain, ANSWER),
    (refused, Answer(Code.INVALID_ARGUMENT, "no good")),
    (leaving, ANSWER),
    (left, Lost("the server said GOAWAY with code 11 (too_many_pings)", unprocessed=True)),
    (reset, Answer(Code.UNAVAILABLE, "the server reset the call with code 7")),
    (pinging, ANSWER),
    (then_garbage, ANSWER),
    (garbage_first, "does not keep to HTTP/2"),
    (http1, "port 4317"),
]


@pytest.mark.parametrize(("behaviour", "expected"), ANSWERS)
@example(cuts=set(range(4096)))
@example(cuts=set())
@given(cuts=st.sets(st.integers(0, 400)))
def test_an_answer_means_the_same_however_it_is_cut(
    behaviour: Callable[[H2Connection], bytes], expected: object, cuts: set[int]
) -> None:
    """The network cuts as it likes; every answer comes to the same result."""
    peer, connection = server(), Connection()
    begin(connection)
    peer.receive_data(connection.bytes_to_send(100))
    greeting = b"" if behaviour is http1 else peer.data_to_send()
    data = greeting + behaviour(peer)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    result = answered(connection, pieces)
    if isinstance(expected, str):
        assert isinstance(result, Lost)
        assert expected in result.message
    else:
        assert result == expected
    assert connection.usable == (behaviour in {plain, refused, reset, pinging})


@given(
    data=st.binary(max_size=200),
    at=st.integers(0, 150),
    replaced=st.integers(0, 20),
    piece=st.integers(1, 300),
)
def test_no_bytes_of_a_server_raise(data: bytes, at: int, replaced: int, piece: int) -> None:
    """A right answer with anything in its midst ends in a result, at the latest when it closes."""
    peer, connection = server(), Connection()
    begin(connection)
    peer.receive_data(connection.bytes_to_send(100))
    right = peer.data_to_send() + plain(peer)
    wrong = right[:at] + data + right[at + replaced :]
    answered(connection, (wrong[i : i + piece] for i in range(0, len(wrong), piece)))
    connection.lost("closed")
    assert isinstance(connection.result, Answer | Lost)
    assert not connection.usable


def test_a_connection_serves_many_calls() -> None:
    """The windows of both directions are given back; results do not mix."""
    peer, connection = server(), Connection()
    for number in range(40):
        stream = 2 * number + 1
        begin(connection, prefixed(b"x" * 4000))
        peer.receive_data(connection.bytes_to_send(10_000))
        peer.increment_flow_control_window(4005)
        peer.send_headers(stream, HEADERS)
        peer.send_data(stream, prefixed(bytes([number]) * 10_000))
        peer.send_headers(stream, OK, end_stream=True)
        connection.receive(peer.data_to_send())
        assert connection.result == Answer(Code.OK, body=bytes([number]) * 10_000)
        peer.receive_data(connection.bytes_to_send(0))
    assert repr(connection) == "<Connection idle>"


def test_an_endless_answer_is_cut() -> None:
    """What is longer than any answer is not kept, and the connection is given up."""
    peer, connection = server(), Connection()
    begin(connection)
    peer.receive_data(connection.bytes_to_send(100))
    peer.send_headers(1, HEADERS)
    received = 0
    while connection.result is None:
        peer.send_data(1, b"x" * 10_000)
        received += 10_000
        connection.receive(peer.data_to_send())
        peer.receive_data(connection.bytes_to_send(0))
    assert received <= MAX_ANSWER + 20_000
    assert isinstance(connection.result, Answer)
    assert connection.result.code is Code.INTERNAL
    assert not connection.usable


def test_a_frame_that_is_too_long_is_not_waited_for() -> None:
    """The header of a frame says how long it will be; 16 MiB are not kept to find out more."""
    peer, connection = server(), Connection()
    begin(connection)
    connection.receive(peer.data_to_send() + b"\xff\xff\xff\0\0\0\0\0\1")
    assert isinstance(connection.result, Lost)


def test_a_refusal_ends_the_upload() -> None:
    """A server that has answered before it read everything is told that the rest will not come."""
    peer, connection = server(), Connection()
    begin(connection, prefixed(b"x" * 100_000))
    peer.receive_data(connection.bytes_to_send(1_000_000))
    assert not connection.has_more  # the window is empty
    peer.send_headers(1, HEADERS + REFUSED, end_stream=True)
    connection.receive(peer.data_to_send())
    assert connection.result == Answer(Code.INVALID_ARGUMENT, "no good")
    events = peer.receive_data(connection.bytes_to_send(1_000_000))
    assert [event.error_code for event in events if isinstance(event, StreamReset)] == [8]
    assert connection.usable


def test_a_server_that_takes_no_streams_takes_no_call() -> None:
    """By its settings; that is known before anything is sent."""
    peer, connection = server(MAX_CONCURRENT_STREAMS=0), Connection()
    connection.receive(peer.data_to_send())
    begin(connection)
    assert isinstance(connection.result, Lost)
    assert connection.result.unprocessed
    assert not connection.in_call


def test_pings_are_answered_between_calls() -> None:
    """A server that looks whether we live finds us alive."""
    peer, connection = server(), Connection()
    peer.receive_data(connection.bytes_to_send(0))
    peer.ping(b"12345678")
    connection.receive(peer.data_to_send())
    events = peer.receive_data(connection.bytes_to_send(0))
    assert any(isinstance(event, SettingsAcknowledged) for event in events)
    assert "PingAckReceived" in {type(event).__name__ for event in events}


def test_the_end_of_a_connection_is_told_with_the_servers_reason() -> None:
    """A server may say why it leaves, and then cut the call all the same."""
    connection = Connection()
    begin(connection)
    connection.receive(goaway(1, 2, b"out of memory"))
    assert connection.result is None
    assert repr(connection) == "<Connection in a call>"
    connection.lost("closed")
    assert connection.result == Lost("closed; the server said GOAWAY with code 2 (out of memory)")
    assert repr(connection) == "<Connection over>"


def test_a_tls_server_is_recognized() -> None:
    """By its alert, which is shorter than a frame's header."""
    connection = Connection()
    begin(connection)
    connection.receive(b"\x15\x03\x03\0\2\2\x28")
    connection.lost("closed")
    assert isinstance(connection.result, Lost)
    assert "https://" in connection.result.message


def test_closing_takes_leave_once() -> None:
    """By a GOAWAY; nothing is said on a connection that is over."""
    connection = Connection()
    connection.bytes_to_send(0)
    connection.close()
    assert connection.bytes_to_send(0)[3] == 7
    connection.close()
    assert connection.bytes_to_send(0) == b""

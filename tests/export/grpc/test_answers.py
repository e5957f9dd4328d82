"""What the server answered, and what that means for the spans."""

from __future__ import annotations

import base64
import gzip
import zlib

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from asynctrace.export.contracts import Delivered, Undelivered
from asynctrace.export.grpc.outcome import RETRYABLE, Answer, Code, Lost, judge
from asynctrace.export.grpc.response import MAX_ANSWER, MAX_TEXT, Response
from tests.support.h2_server import prefixed

Headers = dict[str, str]


def response(headers: Headers, body: bytes = b"", trailers: Headers | None = None) -> Answer:
    read = Response()
    read.headers([(name.encode(), value.encode()) for name, value in headers.items()])
    if body:
        assert read.data(body) is None
    read.headers([(name.encode(), value.encode()) for name, value in (trailers or {}).items()])
    return read.end()


def ok(body: bytes) -> Answer:
    return response(
        {":status": "200", "content-type": "application/grpc"}, body, {"grpc-status": "0"}
    )


def details(*, delay: float | None = None, message: str = "") -> bytes:
    status = Status(code=1, message=message)
    if delay is not None:
        duration = Duration()
        duration.FromNanoseconds(round(delay * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=duration))
    return status.SerializeToString()


# --- reading


@given(st.binary(max_size=300))
def test_a_message_is_taken_out_of_its_prefix(message: bytes) -> None:
    """Plain, or compressed by gzip or zlib."""
    assert ok(prefixed(message)).body == message
    for compressed in (gzip.compress(message), zlib.compress(message)):
        assert ok(b"\1" + prefixed(compressed)[1:]).body == message


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0", prefixed(b"abc")[:-1], prefixed(b"abc") + b"x", b"\1" + prefixed(b"abc")[1:]],
    ids=["none", "cut prefix", "cut message", "more than one", "not compressed"],
)
def test_a_message_that_cannot_be_read_is_none(body: bytes) -> None:
    """The status of the answer stands all the same."""
    assert ok(body) == Answer(Code.OK)


def test_a_small_answer_that_grows_is_cut() -> None:
    """Decompression ends at the limit of answers."""
    bomb = gzip.compress(bytes(50_000_000))
    assert len(ok(b"\1" + prefixed(bomb)[1:]).body) <= MAX_ANSWER


@given(st.text(max_size=50))
def test_texts_are_percent_encoded_utf8(text: str) -> None:
    """Any text comes through."""
    encoded = "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
    read = response({":status": "200", "grpc-status": "13", "grpc-message": encoded})
    assert read.message == text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("raw", "read"),
    [("100% %zz %C3", "100% %zz \ufffd"), ("x" * 5000, "x" * MAX_TEXT)],
)
def test_texts_that_are_not_encoded_properly_are_shown_as_they_are(raw: str, read: str) -> None:
    """Up to a length that a log line bears."""
    answer = response({":status": "200", "grpc-status": "13", "grpc-message": raw})
    assert answer.message == read


@given(st.binary(max_size=50), st.booleans())
def test_binary_details_need_no_padding(content: bytes, padded: bool) -> None:
    """gRPC sends base64 without it, and takes both."""
    text = base64.b64encode(content).decode()
    text = text if padded else text.rstrip("=")
    read = response({":status": "200", "grpc-status": "8", "grpc-status-details-bin": text})
    assert read.details == content


def test_details_that_are_none_are_none() -> None:
    """A wrong length of base64 is not an error of ours."""
    read = response({":status": "200", "grpc-status": "8", "grpc-status-details-bin": "a"})
    assert read.details == b""


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (b"16", Code.UNAUTHENTICATED),
        (b"17", Code.UNKNOWN),
        (b"many", Code.UNKNOWN),
        (b"1" * 5000, Code.UNKNOWN),
    ],
)
def test_a_code_nobody_knows_is_unknown(status: bytes, code: Code) -> None:
    """Whatever it is, it is not success."""
    assert response({":status": "200", "grpc-status": status.decode()}).code is code


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        ("503", "grpc_unavailable", True),
        ("429", "grpc_unavailable", True),
        ("401", "grpc_unauthenticated", False),
        ("404", "grpc_unimplemented", False),
        ("200", "grpc_unknown", False),
        ("", "grpc_unknown", False),
        ("5" * 5000, "grpc_unknown", False),
    ],
)
def test_a_proxy_that_does_not_speak_grpc(status: str, reason: str, retryable: bool) -> None:
    """Its HTTP status counts, and its words are shown."""
    html = {":status": status, "content-type": "text/html"}
    outcome = judge(response(html, b"<h1>no backend</h1>"))
    assert isinstance(outcome, Undelivered)
    assert (outcome.reason, outcome.retryable) == (reason, retryable)
    assert "text/html: <h1>no backend</h1>" in outcome.message
    assert "no content type" in response({":status": status}).message


def test_a_status_of_grpc_outweighs_that_of_http() -> None:
    """A proxy that knows gRPC says both."""
    assert response({":status": "503", "grpc-status": "7"}).code is Code.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (0x0, Code.INTERNAL),
        (0x2, Code.INTERNAL),
        (0x7, Code.UNAVAILABLE),
        (0x8, Code.CANCELLED),
        (0xB, Code.RESOURCE_EXHAUSTED),
        (0xC, Code.PERMISSION_DENIED),
        (0x99, Code.INTERNAL),
    ],
)
def test_a_reset_stands_for_a_code(error: int, code: Code) -> None:
    """By gRPC's own table."""
    assert Response().reset(error).code is code


# --- judging


def test_ok_is_a_delivery_even_if_its_message_cannot_be_read() -> None:
    """The receiver has said yes: sending again would deliver twice."""
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 2
    partial.partial_success.error_message = "old"
    assert judge(Answer(Code.OK, body=partial.SerializeToString())) == Delivered(2, "old")
    assert judge(Answer(Code.OK)) == Delivered()
    assert judge(Answer(Code.OK, body=b"\xff\xff")) == Delivered()


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_the_code_says_whether_to_try_again(code: Code) -> None:
    """By the table of OTLP's specification; exhaustion only when RetryInfo says that it passes."""
    plain = judge(Answer(code, "no"))
    hinted = judge(Answer(code, "no", details=details(delay=2.5)))
    assert isinstance(plain, Undelivered)
    assert isinstance(hinted, Undelivered)
    assert plain == Undelivered(f"grpc_{code.name.lower()}", "no", retryable=code in RETRYABLE)
    assert hinted.retryable == (code in RETRYABLE or code is Code.RESOURCE_EXHAUSTED)
    assert hinted.retry_after == (2.5 if hinted.retryable else None)
    assert {code.value for code in RETRYABLE} == {1, 4, 10, 11, 14, 15}


@pytest.mark.parametrize(
    ("pushback", "retryable", "retry_after"),
    [
        ("0", True, None),
        ("250", True, 0.25),
        (" 250 ", True, 0.25),
        ("-1", False, None),
        ("soon", False, None),
        ("²", False, None),
        ("9" * 99, True, 999_999_999.999),
    ],
)
def test_pushback(pushback: str, retryable: bool, retry_after: float | None) -> None:
    """Milliseconds; what is no number of them forbids a retry."""
    assert judge(Answer(Code.UNAVAILABLE, pushback=pushback)) == Undelivered(
        "grpc_unavailable", "", retryable=retryable, retry_after=retry_after
    )


def test_retry_info_without_a_delay_leaves_it_to_the_back_off() -> None:
    """It says that retrying may help, not that it should be done at once and for ever."""
    for delay in (0.0, -1.0):
        outcome = judge(Answer(Code.RESOURCE_EXHAUSTED, details=details(delay=delay)))
        assert outcome == Undelivered("grpc_resource_exhausted", "", retryable=True)


def test_retry_info_comes_before_pushback() -> None:
    """OTLP speaks of the former."""
    answer = Answer(Code.UNAVAILABLE, details=details(delay=2), pushback="3000")
    outcome = judge(answer)
    assert isinstance(outcome, Undelivered)
    assert outcome.retry_after == 2


def test_the_message_may_stand_in_the_details() -> None:
    """Where grpc-message is empty; details that are none are passed over."""
    outcome = judge(Answer(Code.INTERNAL, details=details(message="disk full")))
    assert outcome == Undelivered("grpc_internal", "disk full")
    assert judge(Answer(Code.INTERNAL, details=b"\xff")) == Undelivered("grpc_internal")


def test_a_connection_that_broke_may_be_tried_again() -> None:
    """Nobody knows whether the spans arrived; at least once is the promise."""
    assert judge(Lost("gone")) == Undelivered("unreachable", "gone", retryable=True)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (9 vs. 8)"),
        (Code.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9 vs. 8)"),
        (Code.RESOURCE_EXHAUSTED, "gRPC message exceeds maximum size 8: 9"),
        (Code.OUT_OF_RANGE, "Error, message length too large: found 9 bytes, the limit is: 8"),
    ],
)
def test_what_is_too_large_is_told_by_its_words(code: Code, words: str) -> None:
    """The same code for an exhausted quota is none of it."""
    assert judge(Answer(code, message=words)).too_large
    assert not judge(Answer(code, message="quota of the tenant")).too_large
    assert not judge(Answer(Code.INTERNAL, message=words)).too_large

"""What an answer of a collector means: the rules of OTLP/HTTP."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from asynctrace.export.contracts import Delivered, Undelivered
from asynctrace.export.otlp_http import RETRYABLE, judge

PROTOBUF = "application/x-protobuf"
STATUS = b"\x08\x03\x12\x0bbad request"  # google.rpc.Status: code 3, message


def partial(rejected: int, message: str) -> bytes:
    success = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=success).SerializeToString()


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_2xx_is_a_delivery(status: int) -> None:
    """With an empty body, whatever its type."""
    assert judge(status, PROTOBUF, None, b"") == Delivered()
    assert judge(status, "", None, b"") == Delivered()


@pytest.mark.parametrize("body", [b"\xff\xff", b"<html>", b"{", b"\x0a\x7f"])
@pytest.mark.parametrize("content_type", [PROTOBUF, "application/json", "text/html"])
def test_2xx_with_an_unreadable_body_is_a_delivery(body: bytes, content_type: str) -> None:
    """The receiver has said yes: sending again would deliver twice."""
    assert judge(200, content_type, None, body) == Delivered()


def test_partial_success_is_read() -> None:
    """In protobuf and in JSON, the content type with its parameters."""
    assert judge(200, PROTOBUF, None, partial(3, "bad")) == Delivered(3, "bad")
    body = json.dumps({"partialSuccess": {"rejectedSpans": "3", "errorMessage": "bad"}}).encode()
    assert judge(200, "Application/JSON; charset=utf-8", None, body) == Delivered(3, "bad")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_four_statuses_may_be_retried(status: int) -> None:
    """Those of the specification, with the delay that the receiver asks for."""
    outcome = judge(status, "", 7.0, b"")
    assert outcome == Undelivered(f"http_{status}", "", retryable=True, retry_after=7.0)


@given(st.integers(100, 599).filter(lambda s: s not in RETRYABLE and not 200 <= s < 300))
def test_every_other_status_is_final(status: int) -> None:
    """Also redirects, which are not followed; `Retry-After` changes nothing."""
    outcome = judge(status, "", 7.0, b"")
    assert outcome == Undelivered(f"http_{status}", too_large=status == 413)


def test_the_servers_own_words_are_kept() -> None:
    """The message of a Status, in both encodings; else the beginning of a text."""
    assert judge(400, PROTOBUF, None, STATUS) == Undelivered("http_400", "bad request")
    body = b'{"code": 3, "message": "bad request"}'
    assert judge(400, "application/json", None, body) == Undelivered("http_400", "bad request")
    text = judge(404, "text/plain", None, b" 404 page not found\n" + b"x" * 999)
    assert isinstance(text, Undelivered)
    assert text.message.startswith("404 page not found")
    assert len(text.message) <= 200


@given(st.integers(100, 599), st.text(), st.binary(max_size=60))
def test_no_answer_raises(status: int, content_type: str, body: bytes) -> None:
    """Whatever a server sends is a delivery or a failure."""
    outcome = judge(status, content_type, None, body)
    assert isinstance(outcome, Delivered) == (200 <= status < 300)

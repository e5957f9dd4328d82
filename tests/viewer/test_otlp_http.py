"""OTLP over HTTP from the receiver's side: what is taken, what is refused, and in which words."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrace.otlp import decode, json
from asynctrace.otlp.records import SpanRecord
from asynctrace.viewer import otlp_http
from asynctrace.viewer.otlp_http import JSON, PROTOBUF, RefusedError, decompress, read_spans

SPAN = SpanRecord(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331", name="a")


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


PACKERS = {"": bytes, "identity": bytes, "gzip": gzip.compress, " GZIP": gzip.compress}


@given(st.binary(max_size=300))
def test_what_senders_compress_comes_out_again(data: bytes) -> None:
    """Every encoding, and deflate in both of its meanings."""
    for encoding, pack in PACKERS.items():
        assert decompress(pack(data), encoding, 300) == data
    assert decompress(zlib.compress(data), "deflate", 300) == data
    assert decompress(raw_deflate(data), "deflate", 300) == data


@given(st.binary(max_size=60), st.sampled_from(["gzip", "deflate"]))
def test_garbage_is_refused_or_small(data: bytes, encoding: str) -> None:
    """Whatever is sent: at most `limit` bytes, or a refusal."""
    try:
        status, size = 200, len(decompress(data, encoding, 10))
    except RefusedError as error:
        status, size = error.status, 0
    assert status in {200, 400, 413}
    assert size <= 10


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
def test_a_bomb_is_refused_before_it_unfolds(pack: type[bytes]) -> None:
    """100 MB of zeros in 100 kB do not become 100 MB here."""
    encoding = "gzip" if pack is gzip.compress else "deflate"
    packed = pack(bytes(100_000_000))
    with pytest.raises(RefusedError, match="larger than 1000 bytes") as caught:
        decompress(packed, encoding, 1000)
    assert caught.value.status == 413


def test_the_limit_is_exact() -> None:
    """As many bytes as allowed are allowed."""
    for encoding, pack in PACKERS.items():
        assert decompress(pack(b"12345"), encoding, 5) == b"12345"
        with pytest.raises(RefusedError):
            decompress(pack(b"12345"), encoding, 4)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (gzip.compress(b"spans" * 99)[:-9], "is cut short"),
        (gzip.compress(b"spans") + b"more", "goes on after its end"),
        (b"spans", "is corrupt"),
        (b"", "is cut short"),
    ],
    ids=["cut", "continued", "plain", "empty"],
)
def test_a_broken_stream_is_the_senders_fault(body: bytes, fault: str) -> None:
    """400, with what is wrong."""
    with pytest.raises(RefusedError, match=fault) as caught:
        decompress(body, "gzip", 10_000)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("content_type", "encoding", "status"),
    [
        ("text/plain", "", 415),
        (PROTOBUF, "br", 415),
        (JSON, "zstd", 415),
        (JSON, "", 400),
        (PROTOBUF, "", 400),
    ],
)
def test_what_is_not_otlp_is_refused(content_type: str, encoding: str, status: int) -> None:
    """By content type, by encoding, by content."""
    with pytest.raises(RefusedError) as caught:
        read_spans(b"spam", content_type=content_type, encoding=encoding, limit=99)
    assert caught.value.status == status


def test_json_requests_are_read() -> None:
    """The same records as were written."""
    body = json.encode_json([SPAN])
    assert read_spans(body, content_type=JSON, encoding="", limit=9999) == [SPAN]


def test_full_success_is_the_empty_message() -> None:
    """Senders must not see a partial success where there is none."""
    assert otlp_http.accepted(PROTOBUF, rejected=0).body == b""
    assert otlp_http.accepted(JSON, rejected=0).body == b"{}"


def test_rejected_spans_are_told_in_either_encoding() -> None:
    """Partial success has the number and a reason."""
    in_protobuf = decode.decode_response(otlp_http.accepted(PROTOBUF, rejected=3).body)
    in_json = json.decode_response(otlp_http.accepted(JSON, rejected=3).body)
    assert in_protobuf == in_json
    assert in_json.rejected == 3
    assert "id" in in_json.message


def test_a_refusal_is_a_status_in_the_senders_encoding() -> None:
    """Somebody who sent neither gets JSON, which a person can read."""
    error = RefusedError(400, 3, "no")
    in_protobuf = otlp_http.refused(error, PROTOBUF)
    in_json = otlp_http.refused(error, "text/plain")
    assert (in_protobuf.status, in_protobuf.content_type) == (400, PROTOBUF)
    assert (in_json.status, in_json.content_type) == (400, JSON)
    status = decode.decode_status(in_protobuf.body)
    assert status == json.decode_status(in_json.body)
    assert (status.code, status.message) == (3, "no")

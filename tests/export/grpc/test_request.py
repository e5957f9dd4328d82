"""What is sent: endpoint, headers, message."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrace.export.grpc.request import Endpoint, timeout


def endpoint(url: str = "http://a:1", compression: str = "none", **headers: str) -> Endpoint:
    return Endpoint(url=url, headers=headers, compression=compression)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "secure"),
    [
        ("http://collector:4317", "collector", 4317, "collector:4317", False),
        ("https://collector", "collector", 443, "collector", True),
        ("HTTP://collector", "collector", 80, "collector", False),
        ("https://[::1]:4317", "::1", 4317, "[::1]:4317", True),
        ("http://user:secret@collector:1", "collector", 1, "collector:1", False),
    ],
)
def test_an_endpoint_is_read_from_its_url(
    url: str, host: str, port: int, authority: str, secure: bool
) -> None:
    """Ports by the scheme where they are left out; credentials are not part of the authority."""
    made = endpoint(url)
    assert (made.host, made.port, made.authority, made.secure) == (host, port, authority, secure)
    assert "secret" not in repr(made)


def test_credentials_of_the_url_are_sent() -> None:
    """As basic authentication, decoded; an explicit header wins."""
    made = endpoint("http://us%40er:s%3Acret@collector:1")
    assert (b"authorization", b"Basic dXNAZXI6czpjcmV0") in made.call_headers()
    assert (b"authorization", b"Basic dXNlcjo=") in endpoint("http://user@a").call_headers()
    explicit = endpoint("http://user:secret@collector:1", authorization="mine").call_headers()
    assert [value for name, value in explicit if name == b"authorization"] == [b"mine"]


def test_a_name_that_is_not_ascii_travels_as_idna() -> None:
    """Headers of HTTP/2 are ASCII."""
    assert (b":authority", b"xn--bcher-kva.example:1") in endpoint(
        "http://bücher.example:1"
    ).call_headers()


@pytest.mark.parametrize(
    "name",
    ["grpc-timeout", "te", "content-type", "host", "connection", "a!b", ":path"],
)
def test_a_header_that_grpc_does_not_allow_is_refused(name: str) -> None:
    """Loudly and at the start, instead of at each call."""
    with pytest.raises(ValueError, match=f"'{name}'"):
        endpoint(**{name: "x"}).call_headers()


def test_a_value_that_grpc_does_not_allow_is_refused_without_showing_it() -> None:
    """It may be a secret; the text says what would be possible."""
    with pytest.raises(ValueError, match="tenant-bin") as caught:
        endpoint(tenant="gehéim").call_headers()
    assert "gehéim" not in str(caught.value)


def test_the_user_agent_may_be_replaced() -> None:
    """There is one, ours or the user's."""
    agents = [
        value
        for name, value in endpoint(**{"user-agent": "shop"}).call_headers()
        if name == b"user-agent"
    ]
    assert agents == [b"shop"]


@given(st.binary(max_size=200), st.sampled_from(["none", "gzip", "deflate"]))
def test_a_message_has_its_prefix(body: bytes, compression: str) -> None:
    """One byte for compression, four for the length, and then what is said in the headers."""
    made = endpoint(compression=compression)
    message = made.message(body)
    assert message[0] == (compression != "none") == made.compresses
    assert int.from_bytes(message[1:5], "big") == len(message) - 5
    readers = {"none": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}
    assert readers[compression](message[5:]) == body
    said = dict(made.call_headers()).get(b"grpc-encoding", b"none")
    assert said == compression.encode()


@given(st.floats(-10, 1e12))
def test_a_timeout_has_at_most_eight_digits(seconds: float) -> None:
    """In the finest unit of ours that holds it, never more than is left, never nothing."""
    name, value = timeout(seconds)
    number, unit = int(value[:-1]), value[-1:]
    assert name == b"grpc-timeout"
    assert 1 <= number < 10**8
    told = number / 1000 if unit == b"m" else number
    assert told <= max(seconds, 0.001)
    if 0.001 <= seconds < 1e8 - 1:
        assert told > seconds * 0.99 - 0.001

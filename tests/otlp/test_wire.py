"""Protobuf's primitives: every reader is the inverse of its writer."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrace.otlp import wire

edges = [0, 1, 127, 128, 16383, 16384, 2**21, 2**32, 2**63 - 1]


@given(st.sampled_from([*edges, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1))
def test_varints(value: int) -> None:
    """Every unsigned number of 64 bits comes back, in the fewest bytes."""
    written = wire.varint(value)
    assert len(written) == max(1, -(-value.bit_length() // 7))
    (field,) = wire.fields(wire.tag(1, wire.VARINT) + written)
    assert field == (1, wire.VARINT, value)


@given(st.sampled_from(edges + [-edge for edge in edges] + [-(2**63)]))
def test_signed_varints(value: int) -> None:
    """Every signed number of 64 bits comes back."""
    message = wire.Message(wire.tag(3, wire.VARINT) + wire.signed_varint(value))
    assert message.int64(3) == value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_signed_varints_have_64_bits(value: int) -> None:
    """A number that does not fit is an error."""
    with pytest.raises(OverflowError):
        wire.signed_varint(value)


@given(st.floats(allow_nan=False))
def test_doubles(value: float) -> None:
    """Every double comes back."""
    message = wire.Message(wire.tag(1, wire.FIXED64) + wire.pack_double(value))
    assert wire.double(message.fixed64(1)) == value


@given(st.integers(1, 2**29 - 1), st.text())
def test_strings(number: int, value: str) -> None:
    """Every string comes back from a field of every number."""
    written = wire.string(number, value)
    assert wire.Message(written).text(number) == value
    assert bool(written) == bool(value)


def test_a_missing_field_has_its_default() -> None:
    """What is not there reads as zero or nothing."""
    message = wire.Message(b"")
    numbers = (message.uint32(1), message.int32(1), message.int64(1))
    assert numbers == (0, 0, 0) == (message.fixed32(1), message.fixed64(1), 0)
    assert (message.text(1), message.content(1), message.message(1)) == ("", b"", b"")
    assert message.messages(1) == []


def test_neither_protobuf_nor_opentelemetry_is_imported() -> None:
    """The whole wire format costs no foreign import."""
    program = (
        "import sys, asynctrace.otlp.encode, asynctrace.otlp.decode, asynctrace.otlp.json\n"
        "print([name for name in sys.modules if name.startswith(('google', 'opentelemetry'))])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"

"""Protobuf's wire format: what every message is made of.

A message is a row of fields. A field is a tag, which is a varint of ``number << 3 | wire type``,
and a value whose extent the wire type tells. See https://protobuf.dev/programming-guides/encoding/.

Writers come first, readers second; each reader is the inverse of a writer. Writers trust their
caller; readers trust nobody and raise only `DecodeError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from asynctrace.errors import AsyncTraceError

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
GROUP_START: Final = 3
GROUP_END: Final = 4
FIXED32: Final = 5

INT32_MAX: Final = 2**31 - 1
UINT32_MAX: Final = 2**32 - 1
UINT64_MAX: Final = 2**64 - 1
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

# The protobuf runtimes refuse a message that nests deeper than this, and with it the whole request.
MAX_DEPTH: Final = 100

_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(0x80))
_DOUBLE: Final = struct.Struct("<d")
_NOTHING: Final = (b"",)

pack_double: Final = _DOUBLE.pack
pack_fixed64: Final = struct.Struct("<Q").pack
pack_fixed32: Final = struct.Struct("<I").pack


class DecodeError(AsyncTraceError, ValueError):
    """The bytes are not the message they are said to be: cut short, or never one."""


# -- writing


def varint(value: int) -> bytes:
    """Write an integer of 0 to 2**64 - 1, seven bits a byte, lowest first."""
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def signed_varint(value: int) -> bytes:
    """Write an int64: a negative one as its two's complement, always ten bytes.

    Raises:
        OverflowError: the value does not fit into 64 bits.
    """
    if not INT64_MIN <= value <= INT64_MAX:
        raise OverflowError("an OTLP integer has 64 bits")
    return varint(value & UINT64_MAX)


def tag(number: int, wire_type: int) -> bytes:
    """Write what stands before the value of a field."""
    return varint(number << 3 | wire_type)


def delimited(number: int, payload: bytes) -> bytes:
    """Write a whole field that is a string, bytes or a message."""
    return tag(number, LENGTH) + varint(len(payload)) + payload


def string(number: int, value: str) -> bytes:
    """Write a whole string field; the empty string is proto3's default, and not written.

    Raises:
        UnicodeEncodeError: a lone surrogate is in it.
    """
    # Not value.encode(): a subclass is taken for what it contains.
    return delimited(number, str.encode(value)) if value else b""


# -- reading


class Field(NamedTuple):
    """One field as read: `value` is the payload of a `LENGTH` field, else an unsigned int."""

    number: int
    wire_type: int
    value: int | bytes


def fields(message: bytes) -> Iterator[Field]:
    """Read the fields of a message one after the other; groups are passed over.

    Raises:
        DecodeError: the message is cut short, or not protobuf.
    """
    position, end = 0, len(message)
    while position < end:
        number, wire_type, position = _read_tag(message, position)
        if wire_type == GROUP_START:
            position = _pass_group(message, position, number, 1)
            continue
        value, position = _read_value(message, position, wire_type)
        yield Field(number, wire_type, value)


class Message:
    """The fields of a message by number; the inverse of the writers, with proto3's defaults.

    A field of another wire type than is asked for counts as unknown, as in protobuf. Of a number
    or string that occurs more than once the last is it. Of a message that does, all are it: they
    merge, and concatenation is merging.
    """

    __slots__ = ("_lengths", "_numbers")

    def __init__(self, message: bytes) -> None:
        """Read all fields.

        Raises:
            DecodeError: see `fields`.
        """
        self._numbers: dict[tuple[int, int], int] = {}
        self._lengths: dict[int, list[bytes]] = {}
        for number, wire_type, value in fields(message):
            if isinstance(value, int):
                self._numbers[number, wire_type] = value
            else:
                self._lengths.setdefault(number, []).append(value)

    def uint32(self, number: int) -> int:
        return self._numbers.get((number, VARINT), 0) & UINT32_MAX

    def int32(self, number: int) -> int:
        """Also an enumeration, which may have members that we have never heard of."""
        value = self.uint32(number)
        return value - 2**32 if value > INT32_MAX else value

    def int64(self, number: int) -> int:
        return signed(self._numbers.get((number, VARINT), 0))

    def fixed32(self, number: int) -> int:
        return self._numbers.get((number, FIXED32), 0)

    def fixed64(self, number: int) -> int:
        return self._numbers.get((number, FIXED64), 0)

    def content(self, number: int) -> bytes:
        return self._lengths.get(number, _NOTHING)[-1]

    def text(self, number: int) -> str:
        """Read a string.

        Raises:
            DecodeError: it is not UTF-8.
        """
        # Each occurrence has to be right, though only the last counts.
        return [text(content) for content in self._lengths.get(number, _NOTHING)][-1]

    def message(self, number: int) -> bytes:
        return b"".join(self._lengths.get(number, ()))

    def messages(self, number: int) -> list[bytes]:
        return self._lengths.get(number, [])


def signed(value: int) -> int:
    """Read a varint as the int64 it stands for."""
    return value - 2**64 if value > INT64_MAX else value


def double(value: int) -> float:
    """Read a fixed64 as the IEEE 754 number it stands for."""
    number: float = _DOUBLE.unpack(pack_fixed64(value))[0]
    return number


def text(content: bytes) -> str:
    """Read a string.

    Raises:
        DecodeError: it is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"a string is not UTF-8: {error.reason}") from None


def _read_tag(message: bytes, position: int) -> tuple[int, int, int]:
    key, position = _read_varint(message, position)
    number = key >> 3
    if not number or key > UINT32_MAX:
        raise DecodeError(f"field number {number} before byte {position} is not possible")
    return number, key & 7, position


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    try:
        for shift in range(0, 70, 7):
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                # The tenth byte has room for one bit of the 64; readers drop the others.
                return value & UINT64_MAX, position
    except IndexError:
        raise DecodeError("the message ends inside a number") from None
    raise DecodeError(f"the number before byte {position} has more than ten bytes")


def _read_value(message: bytes, position: int, wire_type: int) -> tuple[int | bytes, int]:
    if wire_type == VARINT:
        return _read_varint(message, position)
    if wire_type == LENGTH:
        length, position = _read_varint(message, position)
        return _read_bytes(message, position, length)
    if wire_type == FIXED64:
        payload, position = _read_bytes(message, position, 8)
        return int.from_bytes(payload, "little"), position
    if wire_type == FIXED32:
        payload, position = _read_bytes(message, position, 4)
        return int.from_bytes(payload, "little"), position
    raise DecodeError(f"wire type {wire_type} before byte {position} is not possible")


def _read_bytes(message: bytes, position: int, length: int) -> tuple[bytes, int]:
    end = position + length
    if end > len(message):
        raise DecodeError(f"{length} bytes were announced, {len(message) - position} follow")
    return message[position:end], end


def _pass_group(message: bytes, position: int, group: int, depth: int) -> int:
    """Find the end of a group: a kind of field that OTLP never had, and readers must bear."""
    if depth > MAX_DEPTH:
        raise DecodeError(f"groups nest deeper than {MAX_DEPTH}")
    while True:
        number, wire_type, position = _read_tag(message, position)
        if wire_type == GROUP_END:
            if number != group:
                raise DecodeError(f"group {group} is ended as group {number}")
            return position
        if wire_type == GROUP_START:
            position = _pass_group(message, position, number, depth + 1)
        else:
            _, position = _read_value(message, position, wire_type)

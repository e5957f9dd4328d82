"""The bytes of a segment file: a line for people, then records, appended and never changed.

::

    record   mark | spans | length | CRC-32 of the payload | CRC-32 of the above | payload

The head is five times four bytes, its numbers little-endian. The mark says what the payload is: a
whole `ExportTraceServiceRequest`, or an acknowledgement, the offset in this file up to which all
records are done with.

Reading trusts nothing. A record whose head is sound and whose payload is not is stepped over by its
length; where a head is not sound, reading goes on at the next one that is. A format that cannot be
read so gets another suffix of file names, and other marks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

HEADER: Final = b"asynctrace spool\n"
OVERHEAD: Final = 20
"""Bytes that a record has beside its payload."""

_REQUEST: Final = b"\xa7SP1"
_ACKNOWLEDGEMENT: Final = b"\xa7AK1"
_HEAD: Final = struct.Struct("<4sIII")
_CHECK: Final = struct.Struct("<I")
_OFFSET: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Record:
    """One request that waits to be sent."""

    body: bytes
    """An `ExportTraceServiceRequest` in binary protobuf."""
    spans: int
    end: int
    """The offset in the segment where it ends: what its acknowledgement says."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a segment holds that has not been acknowledged."""

    records: tuple[Record, ...] = ()
    damaged: int = 0
    """Stretches that were skipped, torn or corrupted: one record each, or several in a row."""

    @property
    def spans(self) -> int:
        return sum(record.spans for record in self.records)


class _Frame(NamedTuple):
    mark: bytes
    spans: int
    payload: bytes | None
    """None when its checksum is wrong."""
    end: int


def encode_record(body: bytes, spans: int) -> bytes:
    """A request of so many spans, ready to be appended."""
    return _encode(_REQUEST, spans, body)


def encode_acknowledgement(end: int) -> bytes:
    """That all records up to this offset are done with, ready to be appended."""
    return _encode(_ACKNOWLEDGEMENT, 0, _OFFSET.pack(end))


def _encode(mark: bytes, spans: int, payload: bytes) -> bytes:
    head = _HEAD.pack(mark, spans, len(payload), zlib.crc32(payload))
    return head + _CHECK.pack(zlib.crc32(head)) + payload


def read_segment(data: bytes) -> Contents:
    """What is left to be sent of a segment, whatever happened to its bytes. Never raises."""
    records: list[Record] = []
    acknowledged = damaged = 0
    for frame in _frames(data):
        if frame is None or frame.payload is None:
            damaged += 1
        elif frame.mark == _REQUEST:
            records.append(Record(frame.payload, frame.spans, frame.end))
        elif len(frame.payload) == _OFFSET.size:
            acknowledged = max(acknowledged, _OFFSET.unpack(frame.payload)[0])
    return Contents(tuple(r for r in records if r.end > acknowledged), damaged)


def _frames(data: bytes) -> Iterator[_Frame | None]:
    """The frames one after the other; None for each stretch that holds none."""
    position = len(HEADER) if data.startswith(HEADER) else 0
    if HEADER.startswith(data):
        return  # its writer ended before the first record: nothing is missing
    lost = not position
    while position < len(data):
        frame = _frame_at(data, position)
        if frame is None:
            lost = True
            position = _next_mark(data, position + 1)
            continue
        if lost:
            yield None
            lost = False
        yield frame
        position = frame.end
    if lost:
        yield None


def _frame_at(data: bytes, position: int) -> _Frame | None:
    """The frame that starts here; None when none does, or when it is cut short."""
    start = position + OVERHEAD
    if start > len(data):
        return None
    mark, spans, length, payload_check = _HEAD.unpack_from(data, position)
    (check,) = _CHECK.unpack_from(data, position + _HEAD.size)
    if mark not in (_REQUEST, _ACKNOWLEDGEMENT) or start + length > len(data):
        return None
    if zlib.crc32(data[position : position + _HEAD.size]) != check:
        return None
    payload = data[start : start + length]
    sound = zlib.crc32(payload) == payload_check
    return _Frame(mark, spans, payload if sound else None, start + length)


def _next_mark(data: bytes, position: int) -> int:
    """Where a frame may start, from here on; the end when there is no such place."""
    found = [data.find(mark, position) for mark in (_REQUEST, _ACKNOWLEDGEMENT)]
    return min((place for place in found if place >= 0), default=len(data))

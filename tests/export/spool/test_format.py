"""The bytes of a segment: what was written is read, and damage costs only what it touches."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from asynctrace.export.spool.format import (
    HEADER,
    OVERHEAD,
    Contents,
    encode_acknowledgement,
    encode_record,
    read_segment,
)

requests = st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 2**32 - 1)), max_size=6)


def segment(records: list[tuple[bytes, int]]) -> bytes:
    return HEADER + b"".join(encode_record(body, spans) for body, spans in records)


def ends(records: list[tuple[bytes, int]]) -> list[int]:
    sizes = (len(body) + OVERHEAD for body, _ in records)
    return list(accumulate(sizes, initial=len(HEADER)))


def found(contents: Contents) -> list[tuple[bytes, int]]:
    return [(record.body, record.spans) for record in contents.records]


@given(requests)
def test_what_was_appended_is_read(records: list[tuple[bytes, int]]) -> None:
    """In its order, with the number of spans, and with the offset where each record ends."""
    contents = read_segment(segment(records))
    assert found(contents) == records
    assert [record.end for record in contents.records] == ends(records)[1:]
    assert contents.damaged == 0
    assert contents.spans == sum(spans for _, spans in records)


@given(requests, st.data())
def test_a_torn_tail_costs_one_record(
    records: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    """Any prefix gives all records that are complete in it; the torn one is counted."""
    whole = segment(records)
    cut = data.draw(st.integers(0, len(whole)))
    contents = read_segment(whole[:cut])
    complete = sum(end <= cut for end in ends(records)[1:])
    assert found(contents) == records[:complete]
    on_a_boundary = cut in ends(records) or cut < len(HEADER)
    assert contents.damaged == (0 if on_a_boundary else 1)


@given(requests, st.data())
def test_corruption_costs_only_the_records_it_touches(
    records: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    """Bytes flipped anywhere: every other record is read, and that something is lost is counted."""
    whole = bytearray(segment(records))
    places = data.draw(st.sets(st.integers(0, len(whole) - 1), min_size=1, max_size=4))
    for place in places:
        whole[place] ^= data.draw(st.integers(1, 255))
    contents = read_segment(bytes(whole))
    untouched = [
        record
        for record, (start, end) in zip(records, pairwise(ends(records)), strict=True)
        if not any(start <= place < end for place in places)
    ]
    assert found(contents) == untouched
    assert contents.damaged >= 1


@given(st.binary(max_size=300))
def test_no_bytes_are_fatal(data: bytes) -> None:
    """A file that was never a segment gives nothing, and raises nothing."""
    contents = read_segment(data)
    assert contents.records == ()
    assert contents.damaged == (0 if HEADER.startswith(data) else 1)


@given(requests, requests, st.data())
def test_acknowledged_records_are_not_read_again(
    first: list[tuple[bytes, int]], second: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    """An acknowledgement settles all records up to its offset, wherever it stands in the file."""
    boundaries = ends(first)
    settled = data.draw(st.integers(0, len(first)))
    whole = segment(first) + encode_acknowledgement(boundaries[settled])
    whole += b"".join(encode_record(*record) for record in second)
    contents = read_segment(whole)
    assert found(contents) == first[settled:] + second
    assert contents.damaged == 0


@given(requests, st.data())
def test_a_torn_acknowledgement_settles_nothing(
    records: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    """Rather sent twice than not at all."""
    whole = segment(records)
    acknowledgement = encode_acknowledgement(len(whole))
    cut = data.draw(st.integers(1, len(acknowledgement) - 1))
    contents = read_segment(whole + acknowledgement[:cut])
    assert found(contents) == records
    assert contents.damaged == 1

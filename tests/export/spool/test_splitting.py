"""A stored request that is too large for its receiver is sent in smaller ones."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource

from asynctrace.export.contracts import Batch
from asynctrace.export.spool.format import Record
from asynctrace.export.spool.splitting import halves
from asynctrace.otlp.decode import decode_request
from asynctrace.otlp.encode import SpanEncoder
from tests.otlp import samples


def decoded(*records: Record) -> list[str]:
    return [repr(span) for record in records for span in decode_request(record.body)]


@given(st.lists(st.lists(samples.spans(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_halves_are_the_whole(requests: list[list[SimpleNamespace]]) -> None:
    """Every span once, in its order, with its scope and resource, whatever the request is like."""
    body = b"".join(samples.ours(*spans) for spans in requests)
    whole = Record(body, sum(map(len, requests)), 99)
    split = halves(whole)
    if whole.spans == 1:
        assert split == ()
        return
    first, second = split
    assert decoded(first, second) == decoded(whole)
    assert first.spans + second.spans == whole.spans
    assert abs(first.spans - second.spans) <= 1
    assert first.end == second.end == 99


def test_a_split_request_is_smaller() -> None:
    """Down to single spans, which cannot be split."""
    encode = SpanEncoder()
    items = [
        (None, encode.span(1, n, "", 0, 0, "s", 1, 1, 2, {}, 0, (), 0, (), 0, 0, None), None)
        for n in range(8)
    ]
    body = Batch(items, Resource({"service.name": "shop"}, "https://schema")).to_otlp()
    level: tuple[Record, ...] = (Record(body, 8, 0),)
    for size in (4, 2, 1):
        level = tuple(half for record in level for half in halves(record))
        assert [record.spans for record in level] == [size] * (8 // size)
        assert decoded(*level) == decoded(Record(body, 8, 0))
    assert halves(level[0]) == ()


def test_no_request_is_not_split() -> None:
    """Bytes that are something else are refused as a whole."""
    assert halves(Record(b"\x0a\xff", 2, 0)) == ()

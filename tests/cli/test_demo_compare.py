"""Whatever is lost, moved, doubled or added in a trace is told; a whole trace is told whole."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

from hypothesis import assume, given
from hypothesis import strategies as st

from asynctrace.cli.demo.compare import Expected, compare
from asynctrace.otlp.records import ResourceRecord, SpanRecord
from asynctrace.tree import build

KINDS = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]


def received(expected: Expected, trace_id: str = "t1") -> list[SpanRecord]:
    """The spans of a trace as it is expected; the root first, parents before children."""
    return list(_received(expected, "", trace_id, iter(range(1, 10_000))))


def _received(
    expected: Expected, parent: str, trace_id: str, ids: Iterator[int]
) -> Iterator[SpanRecord]:
    span_id = f"{next(ids):016x}"
    yield SpanRecord(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        name=expected.name,
        kind=KINDS.index(expected.kind),
        status_code=2 if expected.failed else 0,
        resource=ResourceRecord(attributes={"service.name": expected.service}),
    )
    for child in expected.children:
        yield from _received(child, span_id, trace_id, ids)


def problems(expected: Expected, spans: list[SpanRecord]) -> list[str]:
    return compare(expected, build(spans))


def trees(*, unique: bool) -> st.SearchStrategy[Expected]:
    """Expected traces of up to about a dozen spans, with unique names or with very common ones."""
    names = st.uuids().map(str) if unique else st.sampled_from("ab")
    leaf = st.builds(
        Expected,
        service=st.sampled_from(["gateway", "orders"]),
        kind=st.sampled_from(["SERVER", "CLIENT"]),
        name=names,
        failed=st.booleans(),
    )
    return st.recursive(
        leaf,
        lambda inner: st.builds(
            lambda top, below: dataclasses.replace(top, children=tuple(below)),
            leaf,
            st.lists(inner, max_size=4),
        ),
        max_leaves=12,
    )


anything = st.one_of(trees(unique=True), trees(unique=False))
chances = st.randoms(use_true_random=False)


@given(anything, chances)
def test_a_whole_trace_has_no_problem(expected: Expected, chance: random.Random) -> None:
    """In any order of arrival, also with siblings that look alike."""
    spans = received(expected)
    assert problems(expected, chance.sample(spans, len(spans))) == []


@given(trees(unique=True), st.data())
def test_exactly_the_lost_spans_are_missing(expected: Expected, data: st.DataObject) -> None:
    """One sentence for each, and none for the orphans that they left."""
    spans = received(expected)
    lost = data.draw(st.sets(st.sampled_from(range(len(spans))), min_size=1))
    kept = [span for number, span in enumerate(spans) if number not in lost]
    told = problems(expected, kept)
    assert len(told) == len(lost)
    for number in lost:
        assert any(t.startswith("missing: ") and f"{spans[number].name!r}, " in t for t in told)


@given(anything, st.data())
def test_a_loss_is_never_overlooked(expected: Expected, data: st.DataObject) -> None:
    """Not even when other spans look the same."""
    spans = received(expected)
    spans.pop(data.draw(st.integers(0, len(spans) - 1)))
    assert any(told.startswith("missing: ") for told in problems(expected, spans))


@given(trees(unique=True), st.data())
def test_exactly_the_moved_span_has_the_wrong_parent(
    expected: Expected, data: st.DataObject
) -> None:
    """What is below it moved along, and is right where it is."""
    spans = received(expected)
    assume(len(spans) > 2)
    moved = data.draw(st.integers(1, len(spans) - 1))
    below = {spans[moved].span_id}
    for span in spans:  # parents come first
        if span.parent_span_id in below:
            below.add(span.span_id)
    others = [
        span.span_id
        for span in spans
        if span.span_id not in below and span.span_id != spans[moved].parent_span_id
    ]
    assume(others)
    parent = data.draw(st.sampled_from(others))
    spans[moved] = dataclasses.replace(spans[moved], parent_span_id=parent)
    [told] = problems(expected, spans)
    assert told.startswith("wrong parent: ")
    assert repr(spans[moved].name) in told


@given(anything, st.data())
def test_a_span_more_is_unexpected(expected: Expected, data: st.DataObject) -> None:
    """Two spans for one request are a fault, not a gift."""
    spans = received(expected)
    model = data.draw(st.sampled_from(spans))
    parent = data.draw(st.sampled_from(spans))
    spans.append(dataclasses.replace(model, span_id="f" * 16, parent_span_id=parent.span_id))
    told = problems(expected, spans)
    assert len(told) == 1
    assert told[0].startswith("unexpected: ")


@given(anything, st.data())
def test_a_span_that_arrives_twice_is_told(expected: Expected, data: st.DataObject) -> None:
    """The tree is right, the delivery is not."""
    spans = received(expected)
    spans.append(data.draw(st.sampled_from(spans)))
    [told] = problems(expected, spans)
    assert told.startswith("arrived twice: ")


@given(trees(unique=True), st.data())
def test_a_wrong_status_is_told(expected: Expected, data: st.DataObject) -> None:
    """A failure that looks like a success, or the opposite."""
    spans = received(expected)
    number = data.draw(st.integers(0, len(spans) - 1))
    wrong = 0 if spans[number].status_code else 2
    spans[number] = dataclasses.replace(spans[number], status_code=wrong)
    [told] = problems(expected, spans)
    assert told.startswith("wrong status: ")
    assert ("succeeded, expected an error" if wrong == 0 else "failed, expected none") in told


TWO_HOPS = Expected(
    "gateway",
    "SERVER",
    "GET /",
    children=(
        Expected(
            "gateway", "CLIENT", "GET", children=(Expected("orders", "SERVER", "GET /orders"),)
        ),
    ),
)


def test_context_that_was_lost_on_the_way_is_told() -> None:
    """The second half of a trace stands in a trace of its own."""
    root, call, served = received(TWO_HOPS)
    apart = dataclasses.replace(served, trace_id="t2", parent_span_id="")
    assert problems(TWO_HOPS, [root, call, apart]) == [
        (
            "wrong parent: orders SERVER 'GET /orders' is at the top of trace t2,"
            " expected below gateway CLIENT 'GET'"
        )
    ]


def test_a_parent_that_nobody_sent_is_told() -> None:
    """The root must be a root, and a child must name the right span."""
    root, call, served = received(TWO_HOPS)
    assert problems(TWO_HOPS, [dataclasses.replace(root, parent_span_id="ab"), call, served]) == [
        (
            "wrong parent: gateway SERVER 'GET /' is below span ab, which did not arrive,"
            " expected at the top"
        )
    ]
    assert problems(TWO_HOPS, [root, call, dataclasses.replace(served, parent_span_id="ab")]) == [
        (
            "wrong parent: orders SERVER 'GET /orders' is below span ab, which did not arrive,"
            " expected below gateway CLIENT 'GET'"
        )
    ]


def test_a_ring_is_told() -> None:
    """A span that is its own parent is not the root."""
    root, call, served = received(TWO_HOPS)
    ring = dataclasses.replace(root, parent_span_id=root.span_id)
    assert problems(TWO_HOPS, [ring, call, served]) == [
        "wrong parent: gateway SERVER 'GET /' is below itself, expected at the top"
    ]


def test_nothing_at_all_is_all_missing() -> None:
    """Each span is named, with the place where it should be."""
    assert problems(TWO_HOPS, []) == [
        "missing: gateway SERVER 'GET /', expected at the top",
        "missing: gateway CLIENT 'GET', expected below gateway SERVER 'GET /'",
        "missing: orders SERVER 'GET /orders', expected below gateway CLIENT 'GET'",
    ]


def test_a_chain_of_thousands_is_borne() -> None:
    """What arrives is not ours to bound."""
    spans = [
        SpanRecord(trace_id="t1", span_id=f"{n + 1:x}", parent_span_id=f"{n:x}" if n else "")
        for n in range(3000)
    ]
    assert len(problems(TWO_HOPS, spans)) == 3003

"""Trace trees: every span at its place, whatever arrived, and drawings that fit a terminal."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrace.otlp.records import ResourceRecord, SpanRecord
from asynctrace.tree import Flaw, Trace, build, draw, duration_text, heading, rows
from asynctrace.tree.text import bar, cells, fit, printable

MS = 1_000_000


def span(
    span_id: str,
    parent: str = "",
    *,
    name: str = "work",
    service: str = "shop",
    kind: int = 1,
    start: float = 0,
    end: float = 1,
    status: int = 0,
    message: str = "",
    attributes: Mapping[str, str | int] | None = None,
    trace_id: str = "t1",
) -> SpanRecord:
    """A span with times in milliseconds."""
    return SpanRecord(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        name=name,
        kind=kind,
        start=int(start * MS),
        end=int(end * MS),
        status_code=status,
        status_message=message,
        attributes=attributes or {},
        resource=ResourceRecord(attributes={"service.name": service}),
    )


def only(spans: list[SpanRecord]) -> Trace[SpanRecord]:
    [trace] = build(spans)
    return trace


def outline(trace: Trace[SpanRecord]) -> list[tuple[int, str]]:
    return [(node.depth, node.span.span_id) for node in trace.nodes]


def flaws(trace: Trace[SpanRecord]) -> dict[str, tuple[Flaw, ...]]:
    return {node.span.span_id: node.flaws for node in trace.nodes if node.flaws}


# --- building ------------------------------------------------------------------------------------


def test_children_follow_their_parent_ordered_by_start() -> None:
    """A trace is read from the top down, as it happened."""
    spans = [
        span("c", "a", start=5, end=6),
        span("d", "b", start=2, end=3),
        span("b", "a", start=1, end=4),
        span("a", start=0, end=9),
    ]
    assert outline(only(spans)) == [(0, "a"), (1, "b"), (2, "d"), (1, "c")]


def test_traces_are_kept_apart_and_come_by_start() -> None:
    """Two traces that arrive mixed are two trees."""
    spans = [span("a", trace_id="late", start=9, end=9), span("a", trace_id="early")]
    assert [trace.trace_id for trace in build(spans)] == ["early", "late"]
    assert build([]) == []


def test_a_span_whose_parent_did_not_arrive_stands_at_the_top() -> None:
    """Lost spans do not hide those that arrived."""
    trace = only([span("a"), span("c", "lost", start=1, end=2), span("d", "c", start=1, end=2)])
    assert outline(trace) == [(0, "a"), (0, "c"), (1, "d")]
    assert flaws(trace) == {"c": (Flaw.ORPHAN,)}
    assert [node.span.span_id for node in trace.roots] == ["a", "c"]


def test_a_span_that_is_its_own_parent_stands_at_the_top() -> None:
    """Garbage is shown as garbage."""
    assert flaws(only([span("a", "a")])) == {"a": (Flaw.CYCLE,)}


def test_a_ring_is_cut_before_its_earliest_span() -> None:
    """Spans that are each other's ancestors are all shown, once."""
    spans = [
        span("tail", "b", start=9, end=9),
        span("a", "c", start=3, end=5),
        span("b", "a", start=1, end=5),
        span("c", "b", start=2, end=5),
    ]
    trace = only(spans)
    assert outline(trace) == [(0, "b"), (1, "c"), (2, "a"), (1, "tail")]
    assert flaws(trace) == {"b": (Flaw.CYCLE,)}


def test_the_first_of_two_spans_with_one_id_is_kept() -> None:
    """A batch that was sent twice does not double the tree."""
    first, second = span("a", name="first"), span("a", name="second")
    trace = only([first, second])
    assert [node.span for node in trace.nodes] == [first]
    assert trace.duplicates == (second,)
    assert "1 duplicate left out" in heading(trace)


def test_a_child_that_starts_before_its_parent_is_marked() -> None:
    """Clocks of two machines differ, and the reader is told."""
    trace = only([span("a", start=5, end=9), span("b", "a", start=2, end=3)])
    assert flaws(trace) == {"b": (Flaw.EARLY,)}
    assert [node.offset for node in trace.nodes] == [0.003, 0.0]
    assert trace.duration == pytest.approx(0.007)


def test_a_child_that_outlives_its_parent_is_nothing_unusual() -> None:
    """A queue's worker runs after the response was sent."""
    trace = only([span("a", end=2), span("b", "a", start=1, end=50)])
    assert not flaws(trace)
    assert trace.duration == 0.05


def test_a_span_that_ends_before_it_starts_lasts_no_time() -> None:
    """Nothing in a drawing is negative."""
    trace = only([span("a", start=5, end=1)])
    assert flaws(trace) == {"a": (Flaw.BACKWARDS,)}
    assert (trace.duration, trace.nodes[0].own) == (0.0, 0.0)


def test_own_time_leaves_out_what_children_cover() -> None:
    """Overlapping children are not subtracted twice, nor what they do after the parent's end."""
    spans = [
        span("a", start=0, end=100),
        span("b", "a", start=10, end=40),
        span("c", "a", start=20, end=30),
        span("d", "a", start=30, end=50),
        span("e", "a", start=90, end=300),
    ]
    assert only(spans).nodes[0].own == pytest.approx(0.05)


def test_a_node_tells_service_kind_and_failure() -> None:
    """Unknown values of others are borne."""
    trace = only([span("a", kind=2, status=2, service="gateway")])
    node = trace.nodes[0]
    assert (node.service, node.kind, node.failed) == ("gateway", "SERVER", True)
    nameless = SpanRecord(trace_id="t", span_id="a", kind=17)
    node = only([nameless]).nodes[0]
    assert (node.service, node.kind, node.failed) == ("unknown_service", "UNSPECIFIED", False)
    assert repr(trace) == "<Trace t1: spans=1 roots=1>"


@st.composite
def forests(draw: st.DrawFn) -> list[SpanRecord]:
    """Spans of which each names an earlier one as its parent, or nobody; shuffled."""
    size = draw(st.integers(1, 30))
    spans = []
    for number in range(size):
        parent = draw(
            st.one_of(st.just(""), st.sampled_from([str(n) for n in range(number)] or [""]))
        )
        start = draw(st.integers(0, 50))
        spans.append(span(str(number), parent, start=start, end=start + draw(st.integers(0, 50))))
    return draw(st.permutations(spans))


anything = st.lists(
    st.builds(
        span,
        st.sampled_from("abcdefgh"),
        st.sampled_from(["", *"abcdefghxyz"]),
        start=st.integers(0, 9),
        end=st.integers(0, 9),
        name=st.text(max_size=8),
        service=st.sampled_from(["shop", "仓库", "a\x1b[31m", ""]),
        status=st.integers(-1, 4),
        message=st.text(max_size=5),
    ),
    min_size=1,
    max_size=12,
)


@given(forests())
def test_every_span_stands_below_its_parent(spans: list[SpanRecord]) -> None:
    """Whatever the order of arrival: each span once, its parent above it, one level up."""
    trace = only(spans)
    placed: dict[str, int] = {}
    for node in trace.nodes:
        assert node.span.span_id not in placed
        placed[node.span.span_id] = node.depth
        assert (node.parent.span_id if node.parent else "") == node.span.parent_span_id
        assert node.depth == (placed[node.parent.span_id] + 1 if node.parent else 0)
    assert len(placed) == len(spans)
    assert Flaw.ORPHAN not in {flaw for node in trace.nodes for flaw in node.flaws}


@given(forests())
def test_exactly_the_youngest_siblings_are_last(spans: list[SpanRecord]) -> None:
    """The branches of a drawing close where nothing follows."""
    trace = only(spans)
    youngest = {node.parent.span_id if node.parent else "": node.span for node in trace.nodes}
    assert {node.span.span_id for node in trace.nodes if node.last} == {
        one.span_id for one in youngest.values()
    }


@given(anything)
def test_garbage_is_placed_completely(spans: list[SpanRecord]) -> None:
    """Each id once; every ring cut once; whoever has a parent that arrived is below it."""
    trace = only(spans)
    parents = {node.span.span_id: node.span.parent_span_id for node in trace.nodes}
    assert sorted(parents) == sorted({one.span_id for one in spans})
    assert len(parents) == len(trace.nodes)
    assert len(trace.nodes) + len(trace.duplicates) == len(spans)
    for node in trace.nodes:
        if node.parent is not None:
            assert node.parent.span_id == node.span.parent_span_id
        elif node.span.parent_span_id in parents:
            assert Flaw.CYCLE in node.flaws
        else:
            assert (Flaw.ORPHAN in node.flaws) == bool(node.span.parent_span_id)
    cut = [node.span.span_id for node in trace.nodes if Flaw.CYCLE in node.flaws]
    rings = rings_of(parents)
    assert len(cut) == len(rings)
    assert all(len(ring.intersection(cut)) == 1 for ring in rings)


def rings_of(parents: Mapping[str, str]) -> set[frozenset[str]]:
    """The plain way: whoever is met again on the way up stands in a ring."""
    rings = set()
    for span_id in parents:
        step, way = span_id, []
        while step in parents and step not in way:
            way.append(step)
            step = parents[step]
        if step in way:
            rings.add(frozenset(way[way.index(step) :]))
    return rings


@given(anything, st.randoms())
def test_the_order_of_arrival_does_not_matter(
    spans: list[SpanRecord], chance: random.Random
) -> None:
    """The same spans make the same trees."""
    unique = list({one.span_id: one for one in spans}.values())
    shuffled = chance.sample(unique, len(unique))
    assert build(shuffled) == build(unique)


# --- drawing -------------------------------------------------------------------------------------


def test_a_drawing_shows_who_did_what_when_and_how_it_went() -> None:
    """The whole picture of one small trace."""
    spans = [
        span(
            "a",
            name="GET /basket",
            service="gateway",
            kind=2,
            end=80,
            status=2,
            attributes={"http.response.status_code": 500, "error.type": "500"},
        ),
        span("b", "a", name="GET", service="gateway", kind=3, start=10, end=60),
        span("c", "b", name="GET /stock", service="stock", kind=2, start=20, end=60, status=1),
        span("d", "a", name="tidy", service="gateway", start=60, end=60.5),
    ]
    expected = """\
trace t1  4 spans  2 services  80.0 ms  1 error
gateway GET /basket    SERVER   ████████████████████ 80.0 ms 500 ✖ 500
├─ gateway GET         CLIENT     ████████████▌      50.0 ms   -
│  └─ stock GET /stock SERVER        ██████████      40.0 ms  ok ◷ slow
└─ gateway tidy        INTERNAL                ▏      500 µs   -"""
    assert draw(only(spans), width=120, slow=0.04).splitlines() == expected.splitlines()


def test_an_error_without_a_type_shows_its_message() -> None:
    """The best that is known stands in the line."""
    [row] = rows(only([span("a", status=2, message="no\nbooks")]))
    assert row.notes == ("✖ no\ufffdbooks",)
    [row] = rows(only([span("a", status=2)]))
    assert row.notes == ("✖ error",)
    [row] = rows(only([span("a", status=9)]))
    assert row.status == "?"


def test_slow_is_the_span_that_took_the_time_itself() -> None:
    """Who only waited for a slow child is not marked."""
    spans = [span("a", end=2000), span("b", "a", start=1, end=1990)]
    assert [row.slow for row in rows(only(spans))] == [False, True]


def test_several_roots_and_flaws_are_told() -> None:
    """A broken trace does not look like a whole one."""
    text = draw(only([span("a"), span("b", "lost")]))
    assert "2 roots" in text
    assert "! parent missing" in text


@given(anything, st.integers(0, 200))
def test_a_drawing_stays_inside_its_width_and_is_printable(
    spans: list[SpanRecord], width: int
) -> None:
    """One line per span; nothing in a name breaks the picture or reaches the terminal."""
    trace = only(spans)
    lines = draw(trace, width=width).splitlines()
    assert len(lines) == 1 + len(trace.nodes)
    assert all(cells(line) <= max(60, width) for line in lines)
    assert all(line.isprintable() for line in lines)
    "\n".join(lines).encode()


def test_a_chain_of_ten_thousand_spans_is_drawn() -> None:
    """Depth is told by a number once it would no longer fit."""
    size = 10_000
    spans = [span(str(n), str(n - 1) if n else "", start=n, end=size) for n in range(size)]
    text = draw(only(spans))
    assert len(text.splitlines()) == size + 1
    assert "⋯9982 " in text.splitlines()[-1]


def test_a_parent_of_ten_thousand_children_is_drawn() -> None:
    """Breadth is no trouble either."""
    size = 10_000
    spans = [span("0"), *(span(str(n), "0", start=n, end=n + 1) for n in range(1, size))]
    text = draw(only(spans))
    assert text.count("├─") == size - 2
    assert text.count("└─") == 1


# --- text ----------------------------------------------------------------------------------------


@given(
    st.floats(0, 1e4),
    st.floats(0, 1e4),
    st.floats(0, 1e4),
    st.integers(1, 60),
)
def test_a_bar_has_its_width_and_is_never_invisible(
    offset: float, duration: float, rest: float, width: int
) -> None:
    """Every span leaves a trace in the picture, however short."""
    drawn = bar(offset, duration, offset + duration + rest, width)
    assert len(drawn) == width
    assert drawn.strip()


def test_bars_are_precise_to_an_eighth() -> None:
    """Half a cell is half a block."""
    assert bar(0, 1, 1, 4) == "████"
    assert bar(0, 1, 8, 4) == "▌   "
    assert bar(0.5, 0.5, 1, 4) == "  ██"
    assert bar(1, 0, 1, 4) == "   ▏"
    assert bar(0, 0, 0, 4) == "▏   "


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 µs"),
        (0.00085, "850 µs"),
        (0.0009996, "1.0 ms"),
        (0.0042, "4.2 ms"),
        (0.09994, "99.9 ms"),
        (0.09996, "100 ms"),
        (0.9996, "1.00 s"),
        (1.254, "1.25 s"),
        (99.996, "100 s"),
    ],
)
def test_durations_have_a_fitting_unit(seconds: float, text: str) -> None:
    """Never `1000 µs`, never `1000 ms`."""
    assert duration_text(seconds) == text


@given(st.text(), st.integers(1, 40))
def test_fit_is_exact(text: str, width: int) -> None:
    """Columns stay straight with any script."""
    assert cells(fit(printable(text), width)) == width


def test_wide_and_combining_characters_are_measured_as_a_terminal_does() -> None:
    """Two cells for an ideograph, none for an accent that joins its letter."""
    assert cells("仓库") == 4
    assert cells("e\u0301") == 1
    assert fit("仓库仓库", 4) == "仓… "
    assert printable("a\x1b[2J\ud800") == "a\ufffd[2J\ufffd"

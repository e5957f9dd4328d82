"""Spans into trace trees.

Telemetry arrives late, twice, in part, and from clocks that disagree, so a tree is made of whatever
came, and says what is wrong with it instead of refusing:

- a span whose parent did not arrive stands at the top, marked `Flaw.ORPHAN`;
- of spans that are each other's ancestors the earliest stands at the top, marked `Flaw.CYCLE`;
- a span that starts before its parent is marked `Flaw.EARLY`: their clocks differ. To end later
  than the parent is nothing unusual in asynchronous programs and gets no mark;
- a span that ends before it starts is marked `Flaw.BACKWARDS`, and counts as lasting no time;
- of spans with the same id the first stays, the others are kept aside in `Trace.duplicates`.

A tree is a flat tuple of nodes in drawing order, each with its depth. Nothing recurses, so a chain
of ten thousand spans is no trouble.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_NANOSECONDS = 1_000_000_000
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUS_ERROR = 2


class HasAttributes(Protocol):
    """What the tree reads of a resource."""

    @property
    def attributes(self) -> Mapping[str, object]: ...


class SpanLike(Protocol):
    """What the tree reads of a span; the records of `asynctrace.otlp` have all of it.

    Ids are lower-case hex, `parent_span_id` is empty for a root, times are Unix time in
    nanoseconds, `kind` and `status_code` are OTLP's numbers.
    """

    @property
    def trace_id(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    @property
    def parent_span_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def attributes(self) -> Mapping[str, object]: ...
    @property
    def status_code(self) -> int: ...
    @property
    def status_message(self) -> str: ...
    @property
    def resource(self) -> HasAttributes: ...


S = TypeVar("S", bound=SpanLike)


class Flaw(enum.Enum):
    """What is wrong with a span's place or times; the value is what drawings show."""

    ORPHAN = "parent missing"
    CYCLE = "is its own ancestor"
    EARLY = "starts before its parent"
    BACKWARDS = "ends before it starts"


@dataclass(frozen=True, slots=True)
class Node(Generic[S]):
    """A span at its place in the tree. Times are seconds."""

    span: S
    depth: int
    """0 at the top."""
    parent: S | None
    """The span that it is drawn under; None at the top."""
    last: bool
    """No sibling follows."""
    offset: float
    """From the start of the trace to the start of the span, never negative."""
    duration: float
    own: float
    """The part of `duration` in which no child was running: where the time really went."""
    flaws: tuple[Flaw, ...] = ()

    @property
    def service(self) -> str:
        """`service.name` of the process that made the span."""
        return str(self.span.resource.attributes.get("service.name", "unknown_service"))

    @property
    def kind(self) -> str:
        """`SERVER`, `CLIENT` and so on; a number that OTLP does not know is `UNSPECIFIED`."""
        return _KINDS[self.span.kind] if 0 <= self.span.kind < len(_KINDS) else _KINDS[0]

    @property
    def failed(self) -> bool:
        """Whether the span's status is error."""
        return self.span.status_code == _STATUS_ERROR


@dataclass(frozen=True, slots=True, repr=False)
class Trace(Generic[S]):
    """All spans of one trace id, parents before children, siblings by start. Never empty."""

    trace_id: str
    nodes: tuple[Node[S], ...]
    duplicates: tuple[S, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds from the earliest start to the latest end."""
        return max(node.offset + node.duration for node in self.nodes)

    @property
    def roots(self) -> tuple[Node[S], ...]:
        """The nodes at the top: one in a trace that arrived whole."""
        return tuple(node for node in self.nodes if node.depth == 0)

    @property
    def services(self) -> tuple[str, ...]:
        """Service names in the order in which they appear."""
        return tuple(dict.fromkeys(node.service for node in self.nodes))

    def __repr__(self) -> str:
        return f"<Trace {self.trace_id}: spans={len(self.nodes)} roots={len(self.roots)}>"


def build(spans: Iterable[S]) -> list[Trace[S]]:
    """Group spans by trace id and make a tree of each group.

    Traces come by start, and the same spans in any order give the same trees (but for which one of
    several with the same id is kept: the first).
    """
    groups: dict[str, list[S]] = {}
    for span in spans:
        groups.setdefault(span.trace_id, []).append(span)
    traces = [_build_one(trace_id, group) for trace_id, group in groups.items()]
    return sorted(traces, key=lambda t: (min(n.span.start for n in t.nodes), t.trace_id))


def _build_one(trace_id: str, spans: Sequence[S]) -> Trace[S]:
    by_id: dict[str, S] = {}
    duplicates = []
    for span in spans:
        if span.span_id in by_id:
            duplicates.append(span)
        else:
            by_id[span.span_id] = span
    tops = _tops(by_id)
    children: dict[str, list[S]] = {}
    for span in by_id.values():
        if span.span_id not in tops:
            children.setdefault(span.parent_span_id, []).append(span)
    for siblings in children.values():
        siblings.sort(key=_by_start)
    nodes = _in_drawing_order(by_id, tops, children)
    return Trace(trace_id=trace_id, nodes=nodes, duplicates=tuple(duplicates))


def _tops(by_id: Mapping[str, S]) -> dict[str, Flaw | None]:
    """The ids of the spans that stand at the top, each with the flaw that put it there."""
    tops: dict[str, Flaw | None] = {}
    settled: set[str] = set()  # known to lead to a top
    for span in by_id.values():
        path: dict[str, S] = {}
        step = span
        while step.span_id not in settled:
            if step.span_id in path:
                ring = list(path.values())[list(path).index(step.span_id) :]
                tops[min(ring, key=_by_start).span_id] = Flaw.CYCLE
                break
            path[step.span_id] = step
            parent = by_id.get(step.parent_span_id)
            if parent is None:
                tops[step.span_id] = Flaw.ORPHAN if step.parent_span_id else None
                break
            step = parent
        settled.update(path)
    return tops


def _in_drawing_order(
    by_id: Mapping[str, S], tops: Mapping[str, Flaw | None], children: Mapping[str, Sequence[S]]
) -> tuple[Node[S], ...]:
    origin = min(span.start for span in by_id.values())
    roots = sorted((by_id[span_id] for span_id in tops), key=_by_start)
    nodes = []
    # What is still to be placed, the next one at the end: span, parent, depth, last.
    waiting: list[tuple[S, S | None, int, bool]] = []
    waiting.extend((root, None, 0, root is roots[-1]) for root in reversed(roots))
    while waiting:
        span, parent, depth, last = waiting.pop()
        below = children.get(span.span_id, ())
        duration = max(0, span.end - span.start)
        nodes.append(
            Node(
                span=span,
                depth=depth,
                parent=parent,
                last=last,
                offset=(span.start - origin) / _NANOSECONDS,
                duration=duration / _NANOSECONDS,
                own=(duration - _covered(span, below)) / _NANOSECONDS,
                flaws=_flaws(span, parent, tops.get(span.span_id)),
            )
        )
        waiting.extend((child, span, depth + 1, child is below[-1]) for child in reversed(below))
    return tuple(nodes)


def _by_start(span: SpanLike) -> tuple[int, str]:
    return span.start, span.span_id


def _flaws(span: SpanLike, parent: SpanLike | None, top: Flaw | None) -> tuple[Flaw, ...]:
    flaws = [] if top is None else [top]
    if parent is not None and span.start < parent.start:
        flaws.append(Flaw.EARLY)
    if span.end < span.start:
        flaws.append(Flaw.BACKWARDS)
    return tuple(flaws)


def _covered(span: SpanLike, children: Iterable[SpanLike]) -> int:
    """Nanoseconds of the span in which at least one child ran; the children come by start."""
    covered, reached = 0, span.start
    for child in children:
        end = min(child.end, span.end)
        covered += max(0, end - max(child.start, reached))
        reached = max(reached, end)
    return covered

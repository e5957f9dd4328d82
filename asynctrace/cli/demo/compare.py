"""Is a trace what it should be? Expected against received trees; pure.

What stands where it should is claimed first, from the top down. What is then still wanted is looked
for among the rest: found there, it has the wrong parent; not found, it is missing. What nobody
claimed was not expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic

from asynctrace.tree import Flaw, Node, S, Trace


@dataclass(frozen=True, slots=True)
class Expected:
    """A span that a trace must have, and what must be below it, in any order."""

    service: str
    kind: str
    name: str
    failed: bool = False
    children: tuple[Expected, ...] = ()

    def __str__(self) -> str:
        return f"{self.service} {self.kind} {self.name!r}"


def compare(expected: Expected, traces: Iterable[Trace[S]]) -> list[str]:
    """What is missing or wrong, one sentence each; empty exactly if the expected tree came.

    `traces` are all that have a part of it: several, when context was lost on the way.
    """
    comparison = _Comparison(list(traces))
    comparison.run(expected)
    return comparison.problems


@dataclass(slots=True, eq=False)
class _Place(Generic[S]):
    """A received span with what stands above and below it."""

    node: Node[S]
    above: _Place[S] | None
    below: list[_Place[S]] = field(default_factory=list)
    shape: int = -1

    @property
    def is_root(self) -> bool:
        return not self.node.span.parent_span_id

    @property
    def is_orphan(self) -> bool:
        return Flaw.ORPHAN in self.node.flaws

    def whereabouts(self) -> str:
        if self.above is not None:
            return f"below {self.above}"
        if self.is_root:
            return f"at the top of trace {self.node.span.trace_id}"
        if self.is_orphan:
            return f"below span {self.node.span.parent_span_id}, which did not arrive"
        return "below itself"

    def fits(self, wanted: Expected) -> bool:
        return (self.node.service, self.node.kind, self.node.span.name) == (
            wanted.service,
            wanted.kind,
            wanted.name,
        )

    def __str__(self) -> str:
        return f"{self.node.service} {self.node.kind} {self.node.span.name!r}"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An expected span that is not where it should be; `above` is None for the root."""

    span: Expected
    above: Expected | None
    above_is_missing: bool = False


class _Comparison(Generic[S]):
    def __init__(self, traces: Sequence[Trace[S]]) -> None:
        self.problems: list[str] = []
        self._shapes = _Shapes()
        self._unclaimed: dict[int, _Place[S]] = {}
        self._wanted: list[_Wanted] = []
        for trace in traces:
            for place in _places(trace, self._shapes):
                self._unclaimed[id(place)] = place
            self.problems += [
                f"arrived twice: span {span.span_id} {span.name!r}" for span in trace.duplicates
            ]

    def run(self, expected: Expected) -> None:
        roots = [place for place in self._unclaimed.values() if place.is_root]
        self._pair([expected], roots, above=None)
        while self._wanted:
            self._look_elsewhere(self._wanted.pop(0))
        self.problems += [
            f"unexpected: {place}, {place.whereabouts()}" for place in self._unclaimed.values()
        ]

    def _pair(
        self, wanted: Sequence[Expected], received: Sequence[_Place[S]], *, above: Expected | None
    ) -> None:
        """Give each wanted span one of the received, first of all those that agree in everything.

        Without that, of two siblings of one name each could be taken for the other.
        """
        left = list(wanted)
        for whole in (True, False):
            for span in tuple(left):
                for place in received:
                    if id(place) not in self._unclaimed or not place.fits(span):
                        continue
                    if whole and place.shape != self._shapes.of(span):
                        continue
                    left.remove(span)  # of equal ones any
                    self._claim(place, span)
                    break
        self._wanted += [_Wanted(span, above) for span in left]

    def _claim(self, place: _Place[S], span: Expected) -> None:
        del self._unclaimed[id(place)]
        if place.node.failed != span.failed:
            self.problems.append(
                f"wrong status: {place} {'succeeded' if span.failed else 'failed'},"
                f" expected {'an error' if span.failed else 'none'}"
            )
        self._pair(span.children, place.below, above=span)

    def _look_elsewhere(self, wanted: _Wanted) -> None:
        expected = "at the top" if wanted.above is None else f"below {wanted.above}"
        fitting = [place for place in self._unclaimed.values() if place.fits(wanted.span)]
        if not fitting:
            self.problems.append(f"missing: {wanted.span}, expected {expected}")
            self._wanted += [
                _Wanted(child, wanted.span, above_is_missing=True) for child in wanted.span.children
            ]
            return
        place = next((place for place in fitting if place.is_orphan), fitting[0])
        if not (place.is_orphan and wanted.above_is_missing):  # that is one and the same loss
            self.problems.append(
                f"wrong parent: {place} is {place.whereabouts()}, expected {expected}"
            )
        self._claim(place, wanted.span)


class _Shapes:
    """Numbers for trees: equal exactly for equal trees, whatever the order of siblings."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}

    def number(self, service: str, kind: str, name: str, failed: bool, below: Iterable[int]) -> int:
        key = (service, kind, name, failed, *sorted(below))
        return self._numbers.setdefault(key, len(self._numbers))

    def of(self, span: Expected) -> int:
        below = [self.of(child) for child in span.children]
        return self.number(span.service, span.kind, span.name, span.failed, below)


def _places(trace: Trace[S], shapes: _Shapes) -> Iterator[_Place[S]]:
    by_id: dict[str, _Place[S]] = {}
    for node in trace.nodes:  # parents come first
        above = None if node.parent is None else by_id[node.parent.span_id]
        place = by_id[node.span.span_id] = _Place(node, above)
        if above is not None:
            above.below.append(place)
    for place in reversed(by_id.values()):
        place.shape = shapes.number(
            place.node.service,
            place.node.kind,
            place.node.span.name,
            place.node.failed,
            [child.shape for child in place.below],
        )
    yield from by_id.values()

"""Trace trees into text: one line per span, with a bar that shows when it ran."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from asynctrace.tree.building import Node, S, Trace
from asynctrace.tree.text import bar, cells, count, duration_text, fit, printable

SLOW = 1.0
"""Seconds of a span's own time from which it is marked as slow."""

_MIN_WIDTH = 60
_MAX_GUIDES = 16  # deeper levels are told by number: long chains stay readable, and linear in size
_STATUS = ("-", "ok", "err")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a drawing, its cells apart."""

    branch: str
    """The lines that lead to the span from the top."""
    service: str
    name: str
    kind: str
    bar: str
    duration: str
    status: str
    """The HTTP status code where there is one, else the status of the span."""
    failed: bool
    slow: bool
    notes: tuple[str, ...]
    """What a reader must not overlook: the error, slowness, flaws."""

    @property
    def label(self) -> str:
        """Branch, service and name."""
        return f"{self.branch}{self.service} {self.name}"


def rows(trace: Trace[S], *, bar_width: int = 24, slow: float = SLOW) -> list[Row]:
    """The lines of a drawing of the trace; all bars are on the scale of the whole trace.

    A span is slow when its own time, without that of its children, reaches `slow` seconds: the mark
    stands where the time went, not on everyone who waited for it.
    """
    total = trace.duration
    lines = []
    goes_on: list[bool] = []  # for each level above the node: does a sibling follow there?
    for node in trace.nodes:
        del goes_on[node.depth :]
        goes_on.append(not node.last)
        lines.append(
            Row(
                branch=_branch(goes_on),
                service=printable(node.service),
                name=printable(node.span.name),
                kind=node.kind,
                bar=bar(node.offset, node.duration, total, bar_width),
                duration=duration_text(node.duration),
                status=_status(node),
                failed=node.failed,
                slow=node.own >= slow,
                notes=_notes(node, slow=node.own >= slow),
            )
        )
    return lines


def draw(trace: Trace[S], *, width: int = 100, slow: float = SLOW) -> str:
    """The trace as lines of text, none wider than `width` cells (but at least 60)."""
    layout = Layout.of(width)
    lines = rows(trace, bar_width=layout.bar, slow=slow)
    label = layout.label(lines)
    drawn = [heading(trace)]
    drawn += [
        f"{fit(row.label, label)} {fit(row.kind, layout.kind)} {row.bar}"
        f" {row.duration:>{layout.duration}} {row.status:>{layout.status}} {', '.join(row.notes)}"
        for row in lines
    ]
    return "\n".join(fit(line, layout.width).rstrip() for line in drawn)


@dataclass(frozen=True, slots=True)
class Layout:
    """How wide the cells of a drawing are; the notes get what is left."""

    width: int
    bar: int
    kind: int = 8
    duration: int = 7
    status: int = 3

    @classmethod
    def of(cls, width: int) -> Layout:
        """The layout for a terminal of `width` cells."""
        width = max(_MIN_WIDTH, width)
        return cls(width=width, bar=width // 6)

    def label(self, lines: Iterable[Row]) -> int:
        """As wide as the longest label, but leaving room for the other cells and for notes."""
        return min(max(cells(row.label) for row in lines), self.width // 2 - 6)


def heading(trace: Trace[S]) -> str:
    """One line about the whole trace: id, size, duration, and what is wrong with it."""
    parts = [
        f"trace {printable(trace.trace_id)}",
        count(len(trace.nodes), "span"),
        count(len(trace.services), "service"),
        duration_text(trace.duration),
    ]
    if errors := sum(node.failed for node in trace.nodes):
        parts.append(count(errors, "error"))
    if len(trace.roots) > 1:
        parts.append(f"{len(trace.roots)} roots")
    if trace.duplicates:
        parts.append(f"{count(len(trace.duplicates), 'duplicate')} left out")
    return "  ".join(parts)


def _branch(goes_on: Sequence[bool]) -> str:
    """The lines from the top to a node; `goes_on` tells it for each level, the node's own last."""
    if len(goes_on) == 1:  # the top level has no line
        return ""
    hidden = max(0, len(goes_on) - 2 - _MAX_GUIDES)
    guides = "".join("│  " if more else "   " for more in goes_on[1 + hidden : -1])
    skipped = f"⋯{hidden} " if hidden else ""
    return f"{skipped}{guides}{'├─ ' if goes_on[-1] else '└─ '}"


def _status(node: Node[S]) -> str:
    code = node.span.attributes.get("http.response.status_code")
    if code is not None:
        return printable(str(code))
    return _STATUS[node.span.status_code] if 0 <= node.span.status_code < len(_STATUS) else "?"


def _notes(node: Node[S], *, slow: bool) -> tuple[str, ...]:
    notes = []
    if node.failed:
        reason = node.span.attributes.get("error.type") or node.span.status_message
        notes.append(printable(f"✖ {reason or 'error'}"))
    if slow:
        notes.append("◷ slow")
    notes.extend(f"! {flaw.value}" for flaw in node.flaws)
    return tuple(notes)

"""The rules of a spool directory: pure decisions about names, sizes, and what an answer means."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, TypeGuard
from urllib.parse import quote, unquote

from asynctrace.export.contracts import Outcome, SpanDropReason, Undelivered

SUFFIX: Final = ".spool"
MAX_SEGMENT: Final = 4 * 2**20
"""Bytes after which a new segment is begun; one is read as a whole when it is sent."""
SEGMENTS: Final = 8
"""Into how many segments the bound is divided at least: what is deleted at once is not much."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What is wrong here is the sender: another one, or this one with better settings, can deliver.
_ABOUT_THE_SENDER: Final = frozenset(
    {"http_401", "http_403", "http_404", "http_405", "http_407", "exporter_failure", "exit"}
    | {"grpc_unauthenticated", "grpc_permission_denied", "grpc_unimplemented"}
)


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """`CREATED.PID.NONCE.EXPORTER.spool`: sorted by age, unique, and told whose it is."""

    created: int
    """Nanoseconds since the epoch."""
    pid: int
    nonce: str
    exporter: str

    def __str__(self) -> str:
        exporter = quote(self.exporter, safe="")
        return f"{self.created:020d}.{self.pid}.{self.nonce}.{exporter}{SUFFIX}"

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """Read a file name; None for files that are none of ours."""
        if not text.endswith(SUFFIX):
            return None
        created, _, rest = text.removesuffix(SUFFIX).partition(".")
        pid, _, rest = rest.partition(".")
        nonce, _, exporter = rest.partition(".")
        if not (_is_number(created) and _is_number(pid) and nonce and exporter):
            return None
        name = cls(int(created), int(pid), nonce, unquote(exporter))
        return name if str(name) == text else None


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A segment file as the directory shows it; sorted by age."""

    name: SegmentName
    size: int
    """Bytes."""


def segment_limit(max_bytes: int) -> int:
    """How large a segment grows before the next is begun."""
    return min(MAX_SEGMENT, max_bytes // SEGMENTS)


def evictions(
    segments: Iterable[Segment],
    *,
    incoming: int,
    max_bytes: int,
    busy: Collection[SegmentName] = (),
) -> tuple[Segment, ...] | None:
    """Which segments must go so that `incoming` bytes fit: the oldest, and no more than needed.

    Those in `busy` are being written or sent and cannot go. None when it does not fit anyhow.
    """
    total = sum(segment.size for segment in segments) + incoming
    chosen: list[Segment] = []
    for segment in sorted(segments):
        if total <= max_bytes:
            break
        if segment.name not in busy:
            chosen.append(segment)
            total -= segment.size
    return tuple(chosen) if total <= max_bytes else None


def sendable(segments: Iterable[Segment], exporter: str | None = None) -> list[SegmentName]:
    """Whose turn it is: the oldest first, of one exporter or of all."""
    return sorted(s.name for s in segments if exporter is None or s.name.exporter == exporter)


def failure_reason(error: OSError) -> str:
    """The reason for which spans are dropped that could not be written."""
    return SpanDropReason.SPOOL_FULL if error.errno in _FULL else SpanDropReason.SPOOL_ERROR


def is_worth_keeping(outcome: Outcome) -> TypeGuard[Undelivered]:
    """Whether a record that came to this may be delivered another time.

    A receiver that is away may come back, and credentials may be renewed. What is refused for its
    own sake is refused for ever, and would keep everything behind it from being sent.
    """
    if not isinstance(outcome, Undelivered):
        return False
    return outcome.retryable or outcome.reason in _ABOUT_THE_SENDER


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()

"""Plain values out of whatever a span was filled with, for the second attempt at encoding it.

The encoder takes its arguments as they are, because they are nearly always right. When they turn
out not to be (a name with a lone surrogate, a time that is no integer, a mapping that changes
while it is read) it tries again with what these functions make of them, which cannot fail.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from asynctrace.otlp.records import EventRecord

T = TypeVar("T")


class SpanContextLike(Protocol):
    """What a link reads of a span context."""

    @property
    def trace_id(self) -> int: ...
    @property
    def span_id(self) -> int: ...
    @property
    def is_remote(self) -> bool: ...


class EventLike(Protocol):
    """OpenTelemetry's Event, or anything with its fields; `timestamp` in nanoseconds."""

    @property
    def name(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def attributes(self) -> Mapping[str, object] | None: ...
    @property
    def dropped_attributes(self) -> int: ...


class LinkLike(Protocol):
    """OpenTelemetry's Link, or anything with its fields."""

    @property
    def context(self) -> SpanContextLike: ...
    @property
    def attributes(self) -> Mapping[str, object] | None: ...
    @property
    def dropped_attributes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PlainContext:
    trace_id: int
    span_id: int
    is_remote: bool


@dataclass(frozen=True, slots=True)
class PlainLink:
    context: PlainContext
    attributes: Mapping[str, object]
    dropped_attributes: int


def text(value: object) -> str:
    """A string that has an UTF-8 form: what has none becomes a question mark."""
    if value is None:
        return ""
    try:
        content = value if isinstance(value, str) else str(value)
        return str.encode(content, errors="replace").decode()
    except Exception:
        return ""


def unsigned(value: object, bits: int) -> int:
    """The nearest integer that fits into `bits`."""
    try:
        return min(max(int(value), 0), 2**bits - 1)  # type: ignore[call-overload, no-any-return]
    except Exception:
        return 0


def member(value: object, known: Container[int]) -> int:
    """The number of an enumeration's member; what is none counts as unspecified."""
    number = unsigned(value, 31)
    return number if number in known else 0


def mapping(value: object) -> Mapping[str, object]:
    """A copy that nobody else changes."""
    try:
        return dict(value or {})  # type: ignore[call-overload, no-any-return]
    except Exception:
        return {}


def events(given: Iterable[EventLike]) -> list[EventRecord]:
    """The events, without those that do not even have the fields of one."""
    return _each(given, _event)


def links(given: Iterable[LinkLike]) -> list[PlainLink]:
    """The links, without those that do not even have the fields of one."""
    return _each(given, _link)


def _event(event: EventLike) -> EventRecord:
    return EventRecord(
        name=text(event.name),
        timestamp=unsigned(event.timestamp, 64),
        attributes=mapping(event.attributes),  # type: ignore[arg-type]  # of whatever values
        dropped_attributes=unsigned(event.dropped_attributes, 32),
    )


def _link(link: LinkLike) -> PlainLink:
    context = link.context
    return PlainLink(
        context=PlainContext(
            trace_id=unsigned(context.trace_id, 128),
            span_id=unsigned(context.span_id, 64),
            is_remote=bool(context.is_remote),
        ),
        attributes=mapping(link.attributes),
        dropped_attributes=unsigned(link.dropped_attributes, 32),
    )


def _each(given: Iterable[object], plain: Callable[..., T]) -> list[T]:
    made: list[T] = []
    try:
        for one in tuple(given):
            try:
                made.append(plain(one))
            except Exception:
                continue
    except Exception:
        return made
    return made

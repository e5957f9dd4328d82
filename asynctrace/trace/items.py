"""Events and links of a span: the SDK's types with plain dicts inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link, SpanContext
from opentelemetry.util.types import AnyValue, Attributes

from .attributes import Fault, take
from .limits import AttributeLimits

_NOTHING: Mapping[str, AnyValue] = MappingProxyType({})


class SpanEvent(Event):
    """An event whose attributes were cleaned and bounded when it was added."""

    def __init__(
        self, name: str, timestamp: int, attributes: dict[str, AnyValue], dropped: int
    ) -> None:
        self._name = name
        self._timestamp = timestamp
        self._attributes = attributes
        self._dropped = dropped

    @property
    def attributes(self) -> Mapping[str, AnyValue]:
        return MappingProxyType(self._attributes) if self._attributes else _NOTHING

    @property
    def dropped_attributes(self) -> int:
        return self._dropped

    def __repr__(self) -> str:
        return f"SpanEvent({self._name!r}, {self._timestamp}, {self._attributes!r})"


class SpanLink(Link):
    """A link whose attributes were cleaned and bounded when it was added."""

    def __init__(self, context: SpanContext, attributes: dict[str, AnyValue], dropped: int) -> None:
        self._context = context
        self._attributes = attributes
        self._dropped = dropped

    @property
    def attributes(self) -> Mapping[str, AnyValue]:
        return MappingProxyType(self._attributes) if self._attributes else _NOTHING

    @property
    def dropped_attributes(self) -> int:
        return self._dropped

    def __repr__(self) -> str:
        return f"SpanLink({self._context!r}, {self._attributes!r})"


def make_event(
    name: str, timestamp: int, attributes: Attributes, limits: AttributeLimits, fault: Fault
) -> SpanEvent:
    kept, dropped = take(attributes, limits, fault) if attributes else ({}, 0)
    return SpanEvent(name, timestamp, kept, dropped)


def make_link(
    context: SpanContext | None, attributes: Attributes, limits: AttributeLimits, fault: Fault
) -> SpanLink | None:
    """None for a link that says nothing: its context is invalid, and there is nothing beside it."""
    if context is None or not (context.is_valid or attributes or context.trace_state):
        return None
    kept, dropped = take(attributes, limits, fault) if attributes else ({}, 0)
    return SpanLink(context, kept, dropped)


def make_links(
    links: Iterable[Link | None], limits: AttributeLimits, fault: Fault
) -> list[SpanLink]:
    """The valid ones of `links`; one that is no link at all is counted as a fault. Never raises."""
    made: list[SpanLink] = []
    try:
        for link in links:
            if link is None:
                continue
            try:
                new = make_link(link.context, link.attributes, limits, fault)
            except Exception as error:
                fault("link", error)
                continue
            if new is not None:
                made.append(new)
    except Exception as error:
        fault("links", error)
    return made

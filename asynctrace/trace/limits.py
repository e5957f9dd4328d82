"""The SDK's `SpanLimits` as plain numbers, read once."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from opentelemetry.sdk.trace import SpanLimits


@dataclass(frozen=True, slots=True)
class AttributeLimits:
    """How many attributes there may be, and how long a string among them (None: any length)."""

    count: int
    length: int | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a span may hold. "No limit" is `sys.maxsize`, so that a limit is always a comparison."""

    span: AttributeLimits
    event: AttributeLimits
    link: AttributeLimits
    events: int
    links: int

    @classmethod
    def of(cls, limits: SpanLimits) -> Limits:
        length = limits.max_attribute_length
        return cls(
            span=AttributeLimits(
                _count(limits.max_span_attributes), limits.max_span_attribute_length
            ),
            event=AttributeLimits(_count(limits.max_event_attributes), length),
            link=AttributeLimits(_count(limits.max_link_attributes), length),
            events=_count(limits.max_events),
            links=_count(limits.max_links),
        )


def _count(limit: int | None) -> int:
    return sys.maxsize if limit is None else limit

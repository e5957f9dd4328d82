"""The user's last look at what leaves the process: every attribute, event and exception text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, Status

Scrub = Callable[[str, Any], Any]
"""`scrub(key, value)` answers the value to send in its place, or None to leave it out.

Beside attributes of spans, events and links it is given the status description, under the key
`otel.status_description`, and the name of each event, under `event.name`.
"""

FAILED = "[scrub failed]"


def scrub_span(
    span: ReadableSpan, scrub: Scrub, fault: Callable[[str, BaseException], None]
) -> None:
    """Put what `scrub` answers in the place of what the ended `span` holds.

    Where `scrub` raises, the text is replaced and the fault counted: a secret must not leave the
    process because its guard broke.
    """

    def clean(key: str, value: Any) -> Any:
        try:
            return scrub(key, value)
        except Exception as error:
            fault("scrub", error)
            return FAILED

    def clean_all(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        cleaned = {key: clean(key, value) for key, value in (attributes or {}).items()}
        return {key: value for key, value in cleaned.items() if value is not None}

    span._attributes = clean_all(span._attributes)
    if span._events:
        events = [_event(event, clean, clean_all) for event in span._events]
        span._events = [event for event in events if event is not None]
    if span._links:
        span._links = [
            Link(link.context, _bounded(clean_all(link.attributes), link.dropped_attributes))
            for link in span._links
        ]
    description = span._status.description
    if description:
        cleaned = clean("otel.status_description", description)
        span._status = Status(span._status.status_code, None if cleaned is None else str(cleaned))


def _event(
    event: Event,
    clean: Scrub,
    clean_all: Callable[[Mapping[str, Any] | None], dict[str, Any]],
) -> Event | None:
    name = clean("event.name", event.name)
    if name is None:
        return None
    attributes = _bounded(clean_all(event.attributes), event.dropped_attributes)
    return Event(str(name), attributes, event.timestamp)


def _bounded(attributes: Mapping[str, Any], dropped: int) -> BoundedAttributes:
    """Events and links count what they dropped in the SDK's own container; keep the count."""
    bounded = BoundedAttributes(attributes=attributes)
    bounded.dropped += dropped
    return bounded

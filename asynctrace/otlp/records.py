"""What OTLP says about traces, as frozen plain values.

Identifiers are lower-case hex, times are nanoseconds since 1970, numbers of enumerations are
OTLP's own (https://opentelemetry.io/docs/specs/otlp/), so that a record says what was sent and
not what somebody made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

AnyValue: TypeAlias = (
    str | bool | int | float | bytes | Sequence["AnyValue"] | Mapping[str, "AnyValue"] | None
)
"""What an attribute can be. Decoding makes tuples of arrays and dicts of key-value lists."""

KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
"""`SpanRecord.kind` is an index of this."""

STATUS_CODES: Final = ("UNSET", "OK", "ERROR")
"""`SpanRecord.status_code` is an index of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRecord:
    """Who sent the spans."""

    attributes: Mapping[str, AnyValue] = field(default_factory=dict)
    dropped_attributes: int = 0
    schema_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeRecord:
    """Which instrumentation made the spans."""

    name: str = ""
    version: str = ""
    attributes: Mapping[str, AnyValue] = field(default_factory=dict)
    dropped_attributes: int = 0
    schema_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something that happened at one moment of a span; `timestamp` is in nanoseconds."""

    name: str = ""
    timestamp: int = 0
    attributes: Mapping[str, AnyValue] = field(default_factory=dict)
    dropped_attributes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRecord:
    """Another span that this one has to do with."""

    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    attributes: Mapping[str, AnyValue] = field(default_factory=dict)
    dropped_attributes: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """One span with its scope and resource; spans of one request share these two objects."""

    trace_id: str
    span_id: str
    parent_span_id: str = ""
    name: str = ""
    kind: int = 0
    start: int = 0
    end: int = 0
    attributes: Mapping[str, AnyValue] = field(default_factory=dict)
    dropped_attributes: int = 0
    events: tuple[EventRecord, ...] = ()
    dropped_events: int = 0
    links: tuple[LinkRecord, ...] = ()
    dropped_links: int = 0
    status_code: int = 0
    status_message: str = ""
    trace_state: str = ""
    flags: int = 0
    scope: ScopeRecord = field(default_factory=ScopeRecord)
    resource: ResourceRecord = field(default_factory=ResourceRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSuccess:
    """A collector's answer to a request; none `rejected` and no `message` is full success."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcStatus:
    """google.rpc.Status, the body of a refusal; `retry_delay` (seconds) is its RetryInfo's."""

    code: int = 0
    message: str = ""
    retry_delay: float | None = None

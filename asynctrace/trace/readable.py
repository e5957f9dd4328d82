"""The reading side of a recorded span: its fields, and the public names of them.

The names of the SDK's fields (`_name`, `_attributes`, `_events`, `_links`, `_status`, ...) are
kept: scrubbing processors in the wild assign to them in `on_end`, and what they leave is encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationInfo, InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.types import AnyValue

from .lean import LeanSpan

if TYPE_CHECKING:
    from .tracer import Tracer

UNSET_STATUS = Status(StatusCode.UNSET)
"""Shared by all spans: a `Status` cannot be changed, only replaced."""


class RecordedSpan(LeanSpan, SdkSpan):  # type: ignore[misc]  # `_context` is a property here
    """What a span knows. `Span` adds what can be done with it."""

    # Set by the tracer for each span, see `Tracer._record`.
    _tracer: Tracer
    _name: str
    _kind: SpanKind
    _start_time: int
    _attributes: dict[str, AnyValue]

    # Defaults of the class: what most spans never change costs nothing to start.
    _parent_id: int = 0
    _parent_flags: int = 0
    _parent_state: TraceState | None = None
    _parent_is_remote: bool = False
    _end_time: int | None = None
    _status: Status = UNSET_STATUS
    _events: Sequence[Event] = ()
    _links: Sequence[Link] = ()
    _dropped_attributes: int = 0
    _dropped_events: int = 0
    _dropped_links: int = 0
    _record_exception: bool = True
    _set_status_on_exception: bool = True
    _own_resource: Resource | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("Span must be instantiated via a tracer.")

    @property
    def context(self) -> SpanContext:
        return self.get_span_context()

    @property
    def parent(self) -> SpanContext | None:
        # Built anew each time: hardly anybody asks, and a kept parent would keep its own parent.
        if not self._parent_id:
            return None
        return SpanContext(
            self._trace_id,
            self._parent_id,
            is_remote=self._parent_is_remote,
            trace_flags=TraceFlags(self._parent_flags),
            trace_state=self._parent_state,
        )

    @property
    def _parent(self) -> SpanContext | None:
        return self.parent

    @_parent.setter
    def _parent(self, parent: SpanContext | None) -> None:
        self._parent_id = 0 if parent is None else parent.span_id
        if parent is not None:
            self._parent_flags = int(parent.trace_flags)
            self._parent_state = parent.trace_state
            self._parent_is_remote = parent.is_remote

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> SpanKind:
        return self._kind

    @property
    def start_time(self) -> int:
        return self._start_time

    @property
    def end_time(self) -> int | None:
        return self._end_time

    @property
    def status(self) -> Status:
        return self._status

    @property
    def attributes(self) -> Mapping[str, AnyValue]:
        return MappingProxyType(self._attributes or {})

    @property
    def events(self) -> Sequence[Event]:
        return tuple(self._events)

    @property
    def links(self) -> Sequence[Link]:
        return tuple(self._links)

    @property
    def dropped_attributes(self) -> int:
        return self._dropped_attributes

    @property
    def dropped_events(self) -> int:
        return self._dropped_events

    @property
    def dropped_links(self) -> int:
        return self._dropped_links

    @property
    def resource(self) -> Resource:
        return self._own_resource or self._tracer._core.resource

    @property
    def _resource(self) -> Resource:
        return self.resource

    @_resource.setter
    def _resource(self, resource: Resource) -> None:
        self._own_resource = resource

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        return self._tracer._instrumentation_scope

    _instrumentation_scope = instrumentation_scope

    @property
    def instrumentation_info(self) -> InstrumentationInfo:
        """Deprecated by OpenTelemetry: use `instrumentation_scope`."""
        return self._tracer.instrumentation_info

    _instrumentation_info = instrumentation_info

    def is_recording(self) -> bool:
        return self._end_time is None

    def to_json(self, indent: int | None = 4) -> str:
        json: str = self._readable_span().to_json(indent)
        return json

    def __repr__(self) -> str:
        state = "recording" if self._end_time is None else "ended"
        context = self.get_span_context()
        return f'{type(self).__name__}(name="{self._name}", context={context}, {state})'

    # ---- copies, for those who ask for one

    def _readable_span(self) -> ReadableSpan:
        """A snapshot that has no part in this span's future."""
        attributes = BoundedAttributes(attributes=self._attributes, immutable=True)
        attributes.dropped = self._dropped_attributes
        return ReadableSpan(
            name=self._name,
            context=self.get_span_context(),
            parent=self.parent,
            resource=self.resource,
            attributes=attributes,
            events=_bounded(self._events, self._dropped_events),
            links=_bounded(self._links, self._dropped_links),
            kind=self._kind,
            status=self._status,
            start_time=self._start_time,
            end_time=self._end_time,
            instrumentation_scope=self.instrumentation_scope,
        )

    def __copy__(self) -> ReadableSpan:
        return self._readable_span()

    def __deepcopy__(self, memo: dict[int, Any]) -> ReadableSpan:
        return deepcopy(self._readable_span(), memo)


def _bounded(items: Sequence[Any], dropped: int) -> BoundedList[Any]:
    bounded = BoundedList.from_seq(None, items)
    bounded.dropped = dropped
    return bounded

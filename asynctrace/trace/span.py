"""Spans. A recorded one is an SDK span in every public respect, at a seventh of its cost.

What makes the difference: the `SpanContext` is built when somebody asks for it, attributes are a
plain dict, events and links have no container until there is one, there is no lock (every change
is one atomic operation of the interpreter), and at the end nothing is copied: processors and the
sink get the span itself, which refuses changes from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link, SpanContext, Status, StatusCode
from opentelemetry.util.types import AnyValue, Attributes

from asynctrace.semconv import UNFINISHED

from .attributes import PLAIN, merge, merge_one, merge_trusted
from .core import MOST_TOLD, TRUSTED
from .exceptions import describe_exception, exception_attributes
from .items import make_event, make_link, make_links
from .lean import DroppedSpan
from .readable import UNSET_STATUS, RecordedSpan

__all__ = ["UNSET_STATUS", "DroppedSpan", "Span"]

_logger = logging.getLogger("asynctrace")

_SAMPLED = 1


class Span(RecordedSpan):
    """A recorded span. Started by a `Tracer`, never by its constructor.

    Any thread may use it. Nothing that is given to it raises: what cannot be recorded is dropped,
    counted, and logged once.
    """

    def set_attribute(self, key: str, value: AnyValue) -> None:
        if self._end_time is not None:
            self._refuse("set_attribute")
            return
        core = self._tracer._core
        limits = core.limits.span
        attributes = self._attributes
        if (
            type(value) in PLAIN
            and type(key) is str
            and key
            and limits.length is None
            and len(attributes) < limits.count
        ):
            attributes.pop(key, None)  # a key that is set again moves to the end
            attributes[key] = value
        else:
            self._dropped_attributes += merge_one(attributes, key, value, limits, core.fault)

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        if self._end_time is not None:
            self._refuse("set_attributes")
            return
        core = self._tracer._core
        dropped = merge(self._attributes, attributes, core.limits.span, core.fault)
        if dropped:
            self._dropped_attributes += dropped

    def update_trusted(self, attributes: Mapping[str, AnyValue]) -> None:
        """Sets attributes that are known to be valid: only looks at them when a limit demands it.

        For the integrations of this library, whose values are strings, numbers, booleans and tuples
        of those by construction. A key that is set again keeps its place.
        """
        if self._end_time is not None:
            self._refuse("update_trusted")
            return
        core = self._tracer._core
        if core.plain and len(self._attributes) < TRUSTED:
            self._attributes.update(attributes)
        else:
            dropped = merge_trusted(self._attributes, attributes, core.limits.span, core.fault)
            self._dropped_attributes += dropped

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        if self._end_time is not None:
            self._refuse("add_event")
            return
        core = self._tracer._core
        if timestamp is None:
            timestamp = core.clock()
        self._add_event(make_event(name, timestamp, attributes, core.limits.event, core.fault))

    def _add_event(self, event: Event) -> None:
        # `setdefault` is atomic: two threads that add the first event agree on one list.
        events: list[Event] = self.__dict__.setdefault("_events", [])
        self._dropped_events += _append(events, event, self._tracer._core.limits.events)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        if self._end_time is not None:
            self._refuse("add_link")
            return
        core = self._tracer._core
        try:
            link = make_link(context, attributes, core.limits.link, core.fault)
        except Exception as error:
            core.fault("link", error)
            return
        if link is not None:
            self._add_link(link)

    def _add_link(self, link: Link) -> None:
        links: list[Link] = self.__dict__.setdefault("_links", [])
        self._dropped_links += _append(links, link, self._tracer._core.limits.links)

    def _set_links(self, links: Iterable[Link]) -> None:
        """The links that a span is started with: the last ones, as many as the limit allows."""
        core = self._tracer._core
        valid = make_links(links, core.limits.link, core.fault)
        self._dropped_links = max(0, len(valid) - core.limits.links)
        self._links = valid[self._dropped_links :]

    def update_name(self, name: str) -> None:
        if self._end_time is not None:
            self._refuse("update_name")
            return
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Sets the status. OK is final, and UNSET cannot be set, as the specification has it."""
        if self._end_time is not None:
            self._refuse("set_status")
            return
        if isinstance(status, StatusCode):
            self._change_status(Status(status, description))
        elif isinstance(status, Status):
            if description is not None:
                _logger.warning("the status has a description of its own, the argument is ignored")
            self._change_status(status)

    def _change_status(self, status: Status) -> None:
        if not status.is_unset and self._status.status_code is not StatusCode.OK:
            self._status = status

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        if self._end_time is not None:
            self._refuse("record_exception")
            return
        fault = self._tracer._core.fault
        recorded = exception_attributes(exception, escaped=escaped, fault=fault)
        if attributes:
            try:
                recorded.update(attributes)
            except Exception as error:
                fault("attributes", error)
        self.add_event("exception", recorded, timestamp)

    def _refuse(self, method: str) -> None:
        """Warn, as the SDK does, but once for each name of a span; and not of one that the shutdown
        has ended under its owner.
        """
        told = self._tracer._core.told
        kind = method, self._name
        if UNFINISHED not in self._attributes and kind not in told and len(told) < MOST_TOLD:
            told.add(kind)
            _logger.warning("%s() on the ended span %r is ignored", method, self._name)

    # ---- starting and ending

    def end_with(self, attributes: Mapping[str, AnyValue]) -> None:
        """`update_trusted`, then `end`, in one step: it is how every request ends."""
        core = self._tracer._core
        on_end = core.quick_end
        kept = self._attributes
        if (
            on_end is not None
            and len(kept) < TRUSTED
            and self._end_time is None
            and self._trace_flags & _SAMPLED
        ):
            kept.update(attributes)
            self._end_time = core.clock()
            core.open_spans.table.pop(self._span_id, None)
            on_end(self)
        else:
            self.update_trusted(attributes)
            self.end()

    def start(self, start_time: int | None = None, parent_context: Context | None = None) -> None:
        """Does nothing but warn: a tracer's span has been started."""
        _logger.warning("start() on a started span")

    def end(self, end_time: int | None = None) -> None:
        """Ends the span, hands it to the processors, then to the sink. Any thread; never raises."""
        core = self._tracer._core
        if end_time is None:
            end_time = core.clock()
        # No call stands between the check and the change: the interpreter lets no other thread in.
        if self._end_time is not None:
            self._refuse("end")
            return
        self._end_time = end_time
        core.open_spans.table.pop(self._span_id, None)
        if core.processors.added:
            core.processors._on_ending(self)
            core.processors.on_end(self)
        sink = core.sink
        if sink is not None and self._trace_flags & _SAMPLED:
            try:
                sink.on_end(self)
            except Exception as error:
                core.fault("sink.on_end", error)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc_val is not None and self._end_time is None:
            if self._record_exception:
                self.record_exception(exc_val, escaped=True)
            if self._set_status_on_exception:
                self.set_status(Status(StatusCode.ERROR, describe_exception(exc_val)))
        self.end()


def _append(items: list[Any], item: Any, most: int) -> int:
    """Appends, dropping the oldest when there are `most`; returns how many were dropped."""
    if len(items) < most:
        items.append(item)
        return 0
    if most:
        items.append(item)
        del items[0]
    return 1

"""The span of a request as it was received: what the request says is kept, and read when asked for.

Of most requests nobody asks before the span is encoded, with many others, where the code that reads
is warm. Between the steps of a request it would take more than twice as long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.trace import SpanContext
from opentelemetry.util.types import AnyValue

from asynctrace.propagation.tracecontext import remote_span

from .ids import RANDOM_TRACE_ID
from .lean import LeanSpan
from .readable import RecordedSpan
from .span import Span

SAMPLED: Final = 1

# Version 00, valid ids, the sampled flag set. What else a header may be goes the long way.
match_sampled: Final = re.compile(
    "00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][13579bdf]"
).fullmatch


class _Unread:
    """A field that comes into being when it is asked for; an instance's own stands before it."""

    __slots__ = ("_default", "_name", "_read")

    def __init__(self, read: Callable[[Any], None], default: object = None) -> None:
        self._read = read
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, span: Any, owner: type | None = None) -> Any:
        if span is None:
            return self
        self._read(span)
        return vars(span).get(self._name, self._default)


class ReceivedSpan(Span):
    """A sampled span of a server, of which nobody has asked for more than that it is current.

    Started by `Tracer.start_received`. Whichever thread asks first, all get the same answers.
    """

    _traceparent: str
    """As `match_sampled` matched it; empty where a trace begins, and when it was read."""
    _facts: Any
    """What `_describe` makes the attributes of; None when it has."""
    _describe: Callable[[Any], dict[str, AnyValue]]
    _outcome: Mapping[str, AnyValue] | None = None
    """The attributes of the end, when it came by `end_with` and no processor was told of it."""

    def _read_caller(self) -> None:
        traceparent = self._traceparent
        if not traceparent:  # there is no caller, or another thread was faster
            return
        caller = remote_span((traceparent,), ())
        assert caller is not None
        # Not over what somebody has assigned meanwhile.
        keep = vars(self).setdefault
        keep("_trace_id", caller._trace_id)
        keep("_trace_flags", caller._trace_flags & RANDOM_TRACE_ID | SAMPLED)
        keep("_parent_id", caller._span_id)
        keep("_parent_flags", caller._trace_flags)
        keep("_parent_state", self._trace_state)
        keep("_parent_is_remote", True)
        self._traceparent = ""

    def _read_attributes(self) -> None:
        facts = self._facts
        if facts is None:  # another thread was faster
            return
        try:
            described = self._describe(facts)
        except Exception as error:
            self._tracer._core.fault("attributes", error)
            described = {}
        attributes = vars(self).setdefault("_attributes", described)
        # In this order, and in the reverse one at the end, so that one of the two sees the other.
        self._facts = None
        if self._outcome is not None:
            attributes.update(self._outcome)

    _trace_id = _Unread(_read_caller)
    _trace_flags = _Unread(_read_caller)
    _parent_id = _Unread(_read_caller, 0)
    _parent_flags = _Unread(_read_caller, 0)
    _parent_state = _Unread(_read_caller)
    _parent_is_remote = _Unread(_read_caller, False)
    _attributes = _Unread(_read_attributes)

    @property
    def _context(self) -> SpanContext:
        return self.get_span_context()

    @_context.setter
    def _context(self, context: SpanContext) -> None:
        self._read_caller()  # so that it is not read over this
        LeanSpan._context.fset(self, context)  # type: ignore[attr-defined]  # a property has it

    @property
    def _parent(self) -> SpanContext | None:
        return self.parent

    @_parent.setter
    def _parent(self, parent: SpanContext | None) -> None:
        self._read_caller()
        RecordedSpan._parent.fset(self, parent)  # type: ignore[attr-defined]  # as above

    def end(self, end_time: int | None = None) -> None:
        # Whoever is told of it may put something else in the place of any field.
        self._read_caller()
        self._read_attributes()
        super().end(end_time)

    def end_with(self, attributes: Mapping[str, AnyValue]) -> None:
        core = self._tracer._core
        on_end = core.quick_end
        if (
            on_end is None
            or self._facts is None
            or not (self._traceparent or self._trace_flags & SAMPLED)
            or self._end_time is not None
        ):
            super().end_with(attributes)
            return
        self._outcome = attributes
        if self._facts is None:  # read by another thread, just now
            self._attributes.update(attributes)
        self._end_time = core.clock()
        core.open_spans.table.pop(self._span_id, None)
        on_end(self)

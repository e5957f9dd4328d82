"""Starts spans: decides first, builds afterwards, and only what the decision wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import getrandbits
from typing import TYPE_CHECKING, TypeVar
from weakref import ref

from opentelemetry import trace as trace_api
from opentelemetry.context import Context, get_value
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    SpanKind,
    TraceState,
    set_span_in_context,
)
from opentelemetry.util.types import AnyValue, Attributes

from asynctrace.propagation.tracecontext import RemoteSpan

from .attributes import take
from .base_tracer import BaseTracer
from .ids import RANDOM_TRACE_ID
from .lateness import note_late_child
from .parent import PARENTS, Parent, as_parent, inherit
from .received import ReceivedSpan
from .sampling import decide
from .span import DroppedSpan, Span

if TYPE_CHECKING:
    from .core import Core

S = TypeVar("S")

_SAMPLED = 1
_DROP = Decision.DROP
_RECORD_AND_SAMPLE = Decision.RECORD_AND_SAMPLE

# The key of the current span, read off what the public API returns.
[_SPAN_KEY] = set_span_in_context(INVALID_SPAN, Context())

_new = object.__new__


class Tracer(BaseTracer):
    """See `opentelemetry.trace.Tracer`. Made by a `TracerProvider`."""

    def __init__(self, core: Core, scope: InstrumentationScope) -> None:
        self._core = core
        self._instrumentation_scope = scope

    # ---- the SDK's attributes, as they are now

    @property
    def sampler(self) -> Sampler:  # type: ignore[override]
        return self._core.sampler

    @property
    def resource(self) -> Resource:  # type: ignore[override]
        return self._core.resource

    @property
    def span_processor(self) -> SynchronousMultiSpanProcessor:  # type: ignore[override]
        return self._core.processors

    @property
    def id_generator(self) -> IdGenerator:  # type: ignore[override]
        return self._core.ids.generator

    # ---- starting spans

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace_api.Span:
        """Starts a span; its parent is the current one of `context`."""
        core = self._core
        current = get_value(_SPAN_KEY, context)
        parent = None if current is None else as_parent(core, current)
        trace_id, flags, state, rule = inherit(core, parent)
        if rule is None:
            decision, attributes, state = _ask(
                core, parent, context, trace_id, name, kind, attributes, links or ()
            )
        else:
            decision = rule if type(rule) is Decision else decide(rule, trace_id)
        if decision is _DROP:
            return _drop(core, trace_id, flags, state)
        kept, dropped = take(attributes, core.limits.span, core.fault) if attributes else ({}, 0)
        span = self._record(name, kind, parent, trace_id, flags, state, decision, kept, start_time)
        if dropped:
            span._dropped_attributes = dropped
        if links:
            span._set_links(links)
        if not record_exception:
            span._record_exception = False
        if not set_status_on_exception:
            span._set_status_on_exception = False
        if core.processors.added:
            core.processors.on_start(span, context)
        return span

    def start_lazily(
        self,
        name: str,
        kind: SpanKind,
        parent: trace_api.Span | None,
        build: Callable[[S], dict[str, AnyValue]],
        subject: S,
        context: Context | None = None,
        links: Sequence[Link] = (),
        start_time: int | None = None,
    ) -> Span | DroppedSpan:
        """Starts a span whose attributes are built only when they are wanted.

        `build(subject)` is called when the span is recorded; or first of all, when the sampler is
        not one of the SDK's own and may want to see them. Its dict becomes the span's, and its
        values are trusted to be valid (see `Span.update_trusted`).

        `parent` None starts a trace, whatever is current. `context` is what a sampler and the
        processors are told (baggage may be in it); by default the current one with `parent` in it.
        """
        core = self._core
        rules = core.quick_rules
        if rules is None or links:
            return self._start_carefully(
                name, kind, parent, build, subject, context, links, start_time
            )
        # The usual case, in line. It runs between the steps of a request, where the interpreter
        # has lost its way through it since the last time: each instruction costs three times what
        # a loop would measure, and each call of a helper more than the helper saves to read.
        if parent is None:
            trace_id, rule = getrandbits(128) or core.ids.trace_id(), rules.root
            inherited, state = RANDOM_TRACE_ID, None
        elif type(parent) in PARENTS:
            known: Parent = parent  # type: ignore[assignment]  # one of these, exactly
            trace_id, inherited, state = known._trace_id, known._trace_flags, known._trace_state
            if type(parent) is RemoteSpan:
                rule = rules.remote_sampled if inherited & _SAMPLED else rules.remote_not_sampled
            else:
                rule = rules.local_sampled if inherited & _SAMPLED else rules.local_not_sampled
        else:
            rule = None
        if rule is _DROP:
            dropped = _new(DroppedSpan)
            dropped._trace_id = trace_id
            dropped._span_id = getrandbits(64) or core.ids.span_id()
            dropped._trace_flags = inherited & RANDOM_TRACE_ID
            dropped._trace_state = state
            return dropped
        if rule is not _RECORD_AND_SAMPLE:
            return self._start_carefully(
                name, kind, parent, build, subject, context, links, start_time
            )
        # Past the SDK's constructors: they build what is built lazily here.
        span: Span = _new(Span)
        span._start_time = core.clock() if start_time is None else start_time
        try:
            span._attributes = build(subject)
        except Exception as error:
            core.fault("attributes", error)
            span._attributes = {}
        span._tracer = self
        span._trace_id = trace_id
        span._span_id = span_id = getrandbits(64) or core.ids.span_id()
        span._trace_flags = inherited & RANDOM_TRACE_ID | _SAMPLED
        span._trace_state = state
        span._name = name
        span._kind = kind
        if parent is not None:
            span._parent_id = known._span_id
            span._parent_flags = inherited
            span._parent_state = state
            span._parent_is_remote = type(parent) is RemoteSpan
            if (type(known) is Span or type(known) is ReceivedSpan) and known._end_time is not None:
                note_late_child(span, known)
        open_spans = core.open_spans
        if len(open_spans.table) < open_spans.bound or open_spans.make_room():
            open_spans.table[span_id] = ref(span)
        return span

    def start_received(
        self,
        name: str,
        kind: SpanKind,
        traceparent: str,
        state: TraceState | None,
        build: Callable[[S], dict[str, AnyValue]],
        facts: S,
    ) -> ReceivedSpan | None:
        """Starts the span of a request that says nothing unusual, and reads it later.

        `traceparent` is one that `match_sampled` matches, or empty, where a trace begins; `state`
        is the caller's besides. `build(facts)` makes the attributes, as in `start_lazily`,
        but not before they are asked for, and in any thread. So the facts must not change, nor may
        they be much: they are kept for as long.

        None when the sampler, a processor or a limit wants to see more: see `start_lazily`.
        """
        core = self._core
        rules = core.quick_rules
        if rules is None:
            return None
        if traceparent:
            if rules.remote_sampled is not _RECORD_AND_SAMPLE:
                return None
            span: ReceivedSpan = _new(ReceivedSpan)
        else:
            if rules.root is not _RECORD_AND_SAMPLE:
                return None
            span = _new(ReceivedSpan)
            span._trace_id = getrandbits(128) or core.ids.trace_id()
            span._trace_flags = RANDOM_TRACE_ID | _SAMPLED
            span._parent_id = 0
            span._parent_is_remote = False
        span._start_time = core.clock()
        span._tracer = self
        span._name = name
        span._kind = kind
        span._traceparent = traceparent
        span._trace_state = state
        span._describe = build
        span._facts = facts
        span._span_id = span_id = getrandbits(64) or core.ids.span_id()
        open_spans = core.open_spans
        if len(open_spans.table) < open_spans.bound or open_spans.make_room():
            open_spans.table[span_id] = ref(span)
        return span

    def _start_carefully(
        self,
        name: str,
        kind: SpanKind,
        parent: trace_api.Span | None,
        build: Callable[[S], dict[str, AnyValue]],
        subject: S,
        context: Context | None,
        links: Sequence[Link],
        start_time: int | None,
    ) -> Span | DroppedSpan:
        """`start_lazily` for any sampler, parent, id generator, limit and processor."""
        core = self._core
        if start_time is None:
            start_time = core.clock()
        known = None if parent is None else as_parent(core, parent)
        trace_id, flags, state, rule = inherit(core, known)
        if context is None and (rule is None or core.processors.added):
            context = set_span_in_context(INVALID_SPAN if parent is None else parent)
        if rule is None:
            built = _build(core, build, subject)
            decision, attributes, state = _ask(
                core, known, context, trace_id, name, kind, built, links
            )
        else:
            decision = rule if type(rule) is Decision else decide(rule, trace_id)
        if decision is _DROP:
            return _drop(core, trace_id, flags, state)
        limits = core.limits.span
        if rule is None:
            kept, dropped = take(attributes or {}, limits, core.fault)
        else:
            kept, dropped = _build(core, build, subject), 0
            if limits.length is not None or len(kept) > limits.count:
                kept, dropped = take(kept, limits, core.fault)
        span = self._record(name, kind, known, trace_id, flags, state, decision, kept, start_time)
        if dropped:
            span._dropped_attributes = dropped
        if links:
            span._set_links(links)
        if core.processors.added:
            core.processors.on_start(span, context)
        return span

    def _record(
        self,
        name: str,
        kind: SpanKind,
        parent: Parent | None,
        trace_id: int,
        flags: int,
        state: TraceState | None,
        decision: Decision,
        attributes: dict[str, AnyValue],
        start_time: int | None,
    ) -> Span:
        """A new span, listed as open. Its processors have not been told yet."""
        core = self._core
        ids = core.ids
        # Past the SDK's constructors: they build what is built lazily here.
        span: Span = _new(Span)
        span._tracer = self
        span._trace_id = trace_id
        span._span_id = span_id = (getrandbits(64) if ids.plain else 0) or ids.span_id()
        span._trace_flags = flags | _SAMPLED if decision is _RECORD_AND_SAMPLE else flags
        span._trace_state = state
        span._name = name
        span._kind = kind
        span._attributes = attributes
        span._start_time = core.clock() if start_time is None else start_time
        # Not the parent itself: spans that follow from each other for days would never be freed.
        if parent is not None:
            span._parent_id = parent._span_id
            span._parent_flags = parent._trace_flags
            span._parent_state = parent._trace_state
            if type(parent) is RemoteSpan:
                span._parent_is_remote = True
            elif (
                type(parent) is Span or type(parent) is ReceivedSpan
            ) and parent._end_time is not None:
                note_late_child(span, parent)
        # Last of all: other threads find it there.
        open_spans = core.open_spans
        if len(open_spans.table) < open_spans.bound or open_spans.make_room():
            open_spans.table[span_id] = ref(span)
        return span


def _drop(core: Core, trace_id: int, flags: int, state: TraceState | None) -> DroppedSpan:
    ids = core.ids
    span: DroppedSpan = _new(DroppedSpan)
    span._trace_id = trace_id
    span._span_id = (getrandbits(64) if ids.plain else 0) or ids.span_id()
    span._trace_flags = flags
    span._trace_state = state
    return span


def _ask(
    core: Core,
    parent: Parent | None,
    context: Context | None,
    trace_id: int,
    name: str,
    kind: SpanKind,
    attributes: Attributes,
    links: Sequence[Link],
) -> tuple[Decision, Attributes, TraceState | None]:
    """What a sampler that is not the SDK's decides: the decision, the attributes, the tracestate.

    When it fails, the trace goes on as it was decided upstream, and is dropped when it begins here:
    a broken sampler can neither tear traces apart nor flood the collector.
    """
    try:
        result = core.sampler.should_sample(context, trace_id, name, kind, attributes, links)
        return Decision(result.decision), result.attributes, result.trace_state
    except Exception as error:
        core.fault(f"{type(core.sampler).__name__}.should_sample", error)
    if parent is None:
        return _DROP, None, None
    decision = _RECORD_AND_SAMPLE if parent._trace_flags & _SAMPLED else _DROP
    return decision, attributes, parent._trace_state


def _build(
    core: Core, build: Callable[[S], dict[str, AnyValue]], subject: S
) -> dict[str, AnyValue]:
    try:
        return build(subject)
    except Exception as error:
        core.fault("attributes", error)
        return {}

"""What of the SDK we rely on is still there, and all of it that is public is answered for."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import (
    Event,
    ReadableSpan,
    SynchronousMultiSpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanKind

from asynctrace.trace.delegate import DelegateProvider, DelegateTracer
from asynctrace.trace.items import SpanEvent, SpanLink
from asynctrace.trace.lean import DroppedSpan
from asynctrace.trace.processors import Processors
from asynctrace.trace.provider import TracerProvider as OurProvider
from asynctrace.trace.span import Span
from asynctrace.trace.tracer import Tracer
from tests.trace.recording import Traced, remote

INHERITED = {
    # They call nothing but what is overridden.
    Span: {"__enter__"},
    # The API's no-ops, and a constructor that assigns to our `_context`.
    DroppedSpan: {
        "__init__",
        *("add_event", "add_link", "end", "is_recording", "record_exception", "set_attribute"),
        *("set_attributes", "set_status", "update_name", "__enter__", "__exit__"),
    },
    Processors: set(),
    OurProvider: set(),
    DelegateProvider: set(),
    Tracer: set(),
    DelegateTracer: set(),
    SpanEvent: {"name", "timestamp"},
    SpanLink: {"context"},
}
BASES: dict[type, tuple[type, ...]] = {
    Span: (SdkSpan, ReadableSpan, trace_api.Span),
    DroppedSpan: (NonRecordingSpan, trace_api.Span),
    Processors: (SynchronousMultiSpanProcessor,),
    OurProvider: (TracerProvider,),
    DelegateProvider: (TracerProvider,),
    Tracer: (SdkTracer,),
    DelegateTracer: (SdkTracer,),
    SpanEvent: (Event,),
    SpanLink: (Link,),
}
_PROTOCOL = {"__init__", "__enter__", "__exit__", "__repr__"}


def _members(cls: type) -> set[str]:
    """Public names, and the special methods that are about behaviour, of a class and its bases."""
    modules = [base for base in cls.__mro__ if base.__module__.startswith("opentelemetry")]
    names = {name for base in modules for name in vars(base)}
    return {name for name in names if not name.startswith("_") or name in _PROTOCOL}


@pytest.mark.parametrize("cls", BASES, ids=lambda cls: cls.__name__)
def test_every_public_member_is_overridden_or_inherited_on_purpose(cls: type) -> None:
    """A member that a new SDK brings would work on fields that our objects do not have."""
    for base in BASES[cls]:
        assert issubclass(cls, base)
    ours = {
        name
        for base in cls.__mro__
        if base.__module__.startswith("asynctrace")
        for name in vars(base)
    }
    assert _members(cls) - ours == INHERITED[cls]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Span, SdkSpan), (Tracer, SdkTracer), (OurProvider, TracerProvider)],
    ids=["span", "tracer", "provider"],
)
def test_methods_take_the_arguments_of_the_sdks(ours: type, theirs: type) -> None:
    """In the same order, with the same names and defaults."""
    for name in _members(theirs) - {"__init__", "__repr__"}:
        expected = _parameters_of(theirs, name)
        if expected:
            found = inspect.signature(getattr(ours, name)).parameters.values()
            assert [(p.name, p.default, p.kind) for p in found] == [
                (p.name, p.default, p.kind) for p in expected
            ], name


def _parameters_of(cls: type, name: str) -> list[inspect.Parameter]:
    """Of the first definition that tells them: the SDK wraps some in a `*args, **kwargs`."""
    for base in cls.__mro__:
        function = vars(base).get(name)
        if inspect.isfunction(function):
            parameters = list(inspect.signature(function).parameters.values())
            if parameters[-1].kind is not inspect.Parameter.VAR_KEYWORD:
                return parameters
    return []


def _sdk_span() -> Any:
    tracer = TracerProvider(ALWAYS_ON, shutdown_on_exit=False).get_tracer("n")
    return tracer.start_span("n", trace_api.set_span_in_context(remote()))


def test_private_fields_of_a_span_are_still_called_so() -> None:
    """We keep them because scrubbing processors assign to them; if they move, ours should."""
    theirs, ours = _sdk_span(), Traced().span("n", trace_api.set_span_in_context(remote()))
    for name in (
        *("_name", "_context", "_kind", "_parent", "_start_time", "_end_time", "_attributes"),
        *("_events", "_links", "_resource", "_status", "_instrumentation_scope"),
        *("_record_exception", "_set_status_on_exception", "_readable_span"),
        *("_add_event", "_add_link"),
    ):
        assert hasattr(theirs, name), name
        assert hasattr(ours, name), name


def test_private_fields_of_a_provider_are_still_called_so() -> None:
    """Tools in the wild read and replace them."""
    theirs: Any = TracerProvider(ALWAYS_ON, shutdown_on_exit=False)
    for ours in (Traced().provider, DelegateProvider()):
        for name in ("_active_span_processor", "_resource", "_span_limits", "_disabled"):
            assert hasattr(theirs, name), name
            assert hasattr(ours, name), name
    assert isinstance(theirs._active_span_processor._span_processors, tuple)


def test_private_fields_of_events_and_links_are_still_called_so() -> None:
    """Our subclasses fill them without the constructors of their bases."""
    context = remote().get_span_context()
    for theirs, ours in (
        (Event("n"), SpanEvent("n", 1, {}, 0)),
        (Link(context), SpanLink(context, {}, 0)),
    ):
        assert set(vars(theirs)) <= set(vars(ours))


def test_the_documented_value_of_a_kind_is_there() -> None:
    """The encoder reads `_value_`, since the property `value` costs as much as a span's start."""
    assert [kind._value_ for kind in SpanKind] == [kind.value for kind in SpanKind]

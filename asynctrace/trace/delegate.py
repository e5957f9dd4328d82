"""The process-wide provider: outlives the lives of `init`, and hands on to the one that runs.

OpenTelemetry's global provider can be set once, and whoever asked it for a tracer keeps that one.
So what is set is a delegate: its tracers look up the running provider whenever a span starts, and
start spans that are not recorded while there is none. Processors added to it are added to the
running provider and to each one after it.
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
)
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, NoOpTracer, ProxyTracerProvider, SpanKind
from opentelemetry.util.types import Attributes

from .base_tracer import BaseTracer
from .processors import Processors
from .provider import TracerProvider
from .sink import Faults

_fault = Faults(None)
_NO_TRACER = NoOpTracer()
_UNKNOWN = Resource({SERVICE_NAME: "unknown_service"})


def install() -> bool:
    """Makes the delegate OpenTelemetry's global provider; False when somebody else's is it already.

    May be called again and again. When OTEL_PYTHON_TRACER_PROVIDER names a provider, OpenTelemetry
    loads it now, and that one is then somebody else's.
    """
    current = trace_api.get_tracer_provider()
    if isinstance(current, ProxyTracerProvider):  # nothing was set so far
        trace_api.set_tracer_provider(_DELEGATE)
        current = trace_api.get_tracer_provider()
    return current is _DELEGATE


def activate(provider: TracerProvider) -> None:
    """Hands on to `provider` from now on; it gets the processors that the delegate was given."""
    _DELEGATE.activate(provider)


def deactivate(provider: TracerProvider) -> None:
    """Hands on to nobody, if it is `provider` that is active."""
    if _DELEGATE.active is provider:
        _DELEGATE.active = None


def active() -> TracerProvider | None:
    """The provider that is handed on to."""
    return _DELEGATE.active


class DelegateProvider(SdkTracerProvider):
    """An SDK provider in every public respect, without anything of its own but the processors."""

    def __init__(self) -> None:
        self.active: TracerProvider | None = None
        self._surviving: list[_Survivor] = []
        self._tracers: dict[InstrumentationScope, DelegateTracer] = {}  # type: ignore[assignment]

    def activate(self, provider: TracerProvider) -> None:
        self.active = provider
        for survivor in self._surviving:
            _add_once(provider, survivor)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace_api.Tracer:
        """A tracer that may be kept for ever."""
        scope = InstrumentationScope(
            instrumenting_module_name or "",
            instrumenting_library_version or "",
            schema_url,
            attributes,
        )
        tracer = self._tracers.get(scope)
        if tracer is None:
            tracer = self._tracers.setdefault(scope, DelegateTracer(self, scope))
        return tracer

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Adds a processor to the active provider and to each later one.

        The end of a life flushes it. It is shut down when the delegate itself is, or the process
        ends.
        """
        if not self._surviving:
            atexit.unregister(self._close_processors)
            atexit.register(self._close_processors)
        survivor = _Survivor(span_processor)
        self._surviving.append(survivor)
        provider = self.active
        if provider is not None:
            _add_once(provider, survivor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flushes the active provider; with none there is nothing to flush, and that is True."""
        provider = self.active
        return True if provider is None else provider.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts down the active provider, and for good the processors that were added here."""
        provider = self.active
        if provider is not None:
            provider.shutdown()
        self._close_processors()

    def _close_processors(self) -> None:
        surviving, self._surviving = self._surviving, []
        for survivor in surviving:
            survivor.close()

    # ---- what the active provider has

    @property
    def sampler(self) -> Sampler:  # type: ignore[override]
        return ALWAYS_OFF if self.active is None else self.active.sampler

    @property
    def id_generator(self) -> IdGenerator:  # type: ignore[override]
        return RandomIdGenerator() if self.active is None else self.active.id_generator

    @property
    def resource(self) -> Resource:
        # Exporters of others look for the service's name, which every provider of the SDK has.
        return _UNKNOWN if self.active is None else self.active.resource

    @property
    def _resource(self) -> Resource:
        return self.resource

    @_resource.setter
    def _resource(self, resource: Resource) -> None:
        if self.active is not None:
            self.active.set_resource(resource)

    @property
    def _span_limits(self) -> SpanLimits:  # type: ignore[override]
        return SpanLimits() if self.active is None else self.active._span_limits

    @property
    def _active_span_processor(self) -> SynchronousMultiSpanProcessor:  # type: ignore[override]
        return Processors(_fault) if self.active is None else self.active._active_span_processor

    @property
    def _disabled(self) -> bool:  # type: ignore[override]
        return self.active is None or self.active._disabled

    def __repr__(self) -> str:
        return f"DelegateProvider(active={self.active!r}, processors={len(self._surviving)})"


class DelegateTracer(BaseTracer):
    """Looks the tracer of the active provider up whenever a span starts."""

    def __init__(self, provider: DelegateProvider, scope: InstrumentationScope) -> None:
        self._provider = provider
        self._instrumentation_scope = scope
        # Provider and tracer change together: another thread must never see one without the other.
        self._found: tuple[TracerProvider | None, trace_api.Tracer] = (None, _NO_TRACER)

    def _find(self) -> trace_api.Tracer:
        provider = self._provider.active
        if provider is None:
            if self._found[0] is not None:
                self._found = (None, _NO_TRACER)  # a life that is over must not be kept in memory
            return _NO_TRACER
        found, tracer = self._found
        if found is not provider:
            scope = self._instrumentation_scope
            tracer = provider.get_tracer(
                scope.name, scope.version, scope.schema_url, scope.attributes
            )
            self._found = (provider, tracer)
        return tracer

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
        return self._find().start_span(
            name,
            context,
            kind,
            attributes,
            links,
            start_time,
            record_exception,
            set_status_on_exception,
        )

    @property
    def sampler(self) -> Sampler:  # type: ignore[override]
        return self._provider.sampler

    @property
    def resource(self) -> Resource:  # type: ignore[override]
        return self._provider.resource

    @property
    def span_processor(self) -> SynchronousMultiSpanProcessor:  # type: ignore[override]
        return self._provider._active_span_processor

    @property
    def id_generator(self) -> IdGenerator:  # type: ignore[override]
        return self._provider.id_generator


class _Survivor(SpanProcessor):
    """A processor of the delegate's: the end of one provider is for it no more than a flush."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor
        self._closed = False

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        if not self._closed:
            self._processor.on_start(span, parent_context=parent_context)

    def _on_ending(self, span: SdkSpan) -> None:
        on_ending = getattr(self._processor, "_on_ending", None)
        if on_ending is not None and not self._closed:
            on_ending(span)

    def on_end(self, span: ReadableSpan) -> None:
        if not self._closed:
            self._processor.on_end(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._closed or self._processor.force_flush(timeout_millis)

    def shutdown(self) -> None:
        self.force_flush()

    def close(self) -> None:
        self._closed = True
        try:
            self._processor.shutdown()
        except Exception as error:
            _fault(f"{type(self._processor).__name__}.shutdown", error)

    def __repr__(self) -> str:
        return repr(self._processor)


def _add_once(provider: TracerProvider, survivor: _Survivor) -> None:
    """A thread that adds a processor may meet one that activates a provider."""
    if survivor not in provider._active_span_processor._span_processors:
        provider.add_span_processor(survivor)


_DELEGATE = DelegateProvider()

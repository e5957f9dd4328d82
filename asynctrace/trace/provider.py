"""The tracer provider: holds what tracers and spans share, and the way out for what has ended."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time_ns

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, SynchronousMultiSpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NoOpTracer
from opentelemetry.trace import Tracer as ApiTracer
from opentelemetry.util.types import Attributes

from .core import Core
from .processors import Processors
from .sink import SpanSink
from .span import Span
from .tracer import Tracer


class TracerProvider(SdkTracerProvider):
    """Makes tracers whose spans go to the added processors, and then to `sink`.

    `sink` is always the last, in whatever order processors are added, so that what they changed is
    what it gets. Only spans that are sampled reach it; the processors see those that are merely
    recorded, too. `clock` gives the time of start, end and events in nanoseconds since 1970.
    `max_open_spans` bounds the table behind `open_spans`. A `disabled` provider traces nothing.

    Neither threads nor `atexit` hooks come with it: whoever makes one shuts it down.
    """

    def __init__(
        self,
        *,
        sampler: Sampler,
        resource: Resource,
        id_generator: IdGenerator | None = None,
        span_limits: SpanLimits | None = None,
        clock: Callable[[], int] = time_ns,
        sink: SpanSink | None = None,
        max_open_spans: int = 10_000,
        disabled: bool = False,
    ) -> None:
        self._core = Core(
            sampler=sampler,
            resource=resource,
            id_generator=id_generator,
            span_limits=SpanLimits() if span_limits is None else span_limits,
            clock=clock,
            sink=sink,
            max_open_spans=max_open_spans,
        )
        self._disabled = disabled
        self._shut_down = False
        self._tracers: dict[InstrumentationScope, Tracer] = {}  # type: ignore[assignment]

    # ---- tracers

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> ApiTracer:
        """The tracer of an instrumentation scope; the same one for the same arguments."""
        if self._disabled:
            return NoOpTracer()
        scope = InstrumentationScope(
            instrumenting_module_name or "",
            instrumenting_library_version or "",
            schema_url,
            attributes,
        )
        tracer = self._tracers.get(scope)
        if tracer is None:
            # `setdefault` is atomic, so there is no lock that a fork could leave locked.
            tracer = self._tracers.setdefault(scope, Tracer(self._core, scope))
        return tracer

    # ---- what the spans share

    @property
    def sampler(self) -> Sampler:  # type: ignore[override]
        return self._core.sampler

    @property
    def id_generator(self) -> IdGenerator:  # type: ignore[override]
        return self._core.ids.generator

    @property
    def resource(self) -> Resource:
        return self._core.resource

    def set_resource(self, resource: Resource) -> None:
        """Replaces the resource, also that of the spans begun before."""
        self._core.resource = resource

    @property
    def _resource(self) -> Resource:
        """The SDK's field: tools in the wild assign a merged resource to it."""
        return self._core.resource

    @_resource.setter
    def _resource(self, resource: Resource) -> None:
        self._core.resource = resource

    @property
    def _span_limits(self) -> SpanLimits:  # type: ignore[override]
        return self._core.span_limits

    # ---- processors

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Adds a processor, to be called after those added before and ahead of the sink.

        What a hook of it raises is counted (`SpanSink.fault`) and logged once; the span goes on.
        """
        self._core.processors.add_span_processor(span_processor)

    @property
    def processors(self) -> Processors:
        """The added processors, to be flushed or shut down apart from the sink."""
        return self._core.processors

    @property
    def _active_span_processor(self) -> SynchronousMultiSpanProcessor:  # type: ignore[override]
        return self._core.processors

    # ---- open spans

    def open_spans(self) -> tuple[Span, ...]:
        """The spans that were started and have not ended, oldest first."""
        return self._core.open_spans.snapshot()

    @property
    def open_span_overflow(self) -> int:
        """How many spans are not in `open_spans` because `max_open_spans` others were open."""
        return self._core.open_spans.overflow

    def forget_open_spans(self) -> None:
        """Empties the table: in a forked child they are the parent's to end."""
        self._core.open_spans.clear()

    # ---- the end

    def fault(self, where: str, error: BaseException) -> None:
        """Counts an error that an integration kept from user code, and logs its kind once."""
        self._core.fault(where, error)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flushes the processors, then the sink, within `timeout_millis`; True when all did.

        On the loop that delivers it only sets that going, and says False.
        """
        deadline = monotonic() + timeout_millis / 1000
        core = self._core
        waits = core.sink is None or not core.sink.must_not_wait()
        flushed = core.processors.force_flush(timeout_millis) if waits else False
        if core.sink is None:
            return flushed
        try:
            return core.sink.force_flush(max(0.0, deadline - monotonic())) and flushed
        except Exception as error:
            core.fault("sink.force_flush", error)
            return False

    def shutdown(self) -> None:
        """Shuts the processors down, then the sink. A second call does nothing.

        Tracers keep working, so that code which still runs is not hurt; their spans go nowhere.
        """
        if self._shut_down:
            return
        core = self._core
        if core.sink is None or not core.sink.must_not_wait():
            self._shut_down = True
            core.processors.shutdown()
        if core.sink is not None:
            try:
                core.sink.shutdown()
            except Exception as error:
                core.fault("sink.shutdown", error)

    def __repr__(self) -> str:
        state = "disabled" if self._disabled else "shut down" if self._shut_down else "running"
        return f"TracerProvider({state}, {self._core.processors!r}, {self._core.open_spans!r})"

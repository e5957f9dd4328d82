"""What OpenTelemetry's conventions have an SDK tell of itself: the `otel.sdk.*` metrics.

https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/

All but one are observed: whoever collects metrics asks, and gets the figures that are kept anyway.
So they cost nothing where there is no meter provider and nothing per span where there is one. They
begin when a provider is set, also if that is after `init`. The one is the duration of an export,
which is recorded once for each batch.

Not among them is `otel.sdk.span.started`: it counts the spans of dropped traces, too, which would
cost something for each of them, and part of it would be no more than a guess.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final, Protocol, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import TraceFlags

from asynctrace import semconv
from asynctrace.trace.span import Span

from .adapters import SyncExporterAdapter
from .attempts import Timed
from .contracts import Delivered, Exporter, Outcome, SpanDropReason
from .reports import ExporterStatistics

_PROCESSOR: Final = "batching_span_processor"
_OTHER: Final = "_OTHER"
"""The conventions' word for an error that has no short name."""

_ERRORS: Final = {SpanDropReason.CLOSED: "already_shutdown"}
"""Where the conventions prescribe another word than ours."""

_Attributes: TypeAlias = Mapping[str, str]


class Delivering(Protocol):
    """A pipeline, as far as it is observed."""

    exporter: Exporter

    @property
    def capacity(self) -> int: ...
    def statistics(self) -> ExporterStatistics: ...
    def time_exports(self, timed: Timed) -> None: ...


@dataclass(frozen=True, slots=True)
class _Component:
    """A pipeline and under which names it is told of: as a processor and as an exporter."""

    pipeline: Delivering
    processor: _Attributes
    exporter: _Attributes


@dataclass(frozen=True, slots=True)
class _Watched:
    """What is observed for as long as its owner, a `Tracing`, exists."""

    owner: weakref.ref[object]
    components: tuple[_Component, ...]
    open_spans: Callable[[], Iterable[Span]]


class SelfMetrics:
    """The instruments of one meter, and whom they observe."""

    def __init__(self, meter: Meter) -> None:
        self._watched: tuple[_Watched, ...] = ()
        self._duration = meter.create_histogram(
            semconv.SDK_EXPORTER_OPERATION_DURATION,
            unit="s",
            description="The duration of exporting a batch, with all attempts.",
        )
        rising = meter.create_observable_counter
        level = meter.create_observable_up_down_counter
        for create, name, observe, description in (
            (level, semconv.SDK_SPAN_LIVE, self._live, "Recording spans that have not ended."),
            (
                level,
                semconv.SDK_PROCESSOR_SPAN_QUEUE_SIZE,
                self._queue_size,
                "Spans in the queue of a processor.",
            ),
            (
                level,
                semconv.SDK_PROCESSOR_SPAN_QUEUE_CAPACITY,
                self._queue_capacity,
                "Spans that the queue of a processor can hold.",
            ),
            (
                rising,
                semconv.SDK_PROCESSOR_SPAN_PROCESSED,
                self._processed,
                "Spans that a processor is done with: handed to the exporter, or dropped.",
            ),
            (
                level,
                semconv.SDK_EXPORTER_SPAN_INFLIGHT,
                self._in_flight,
                "Spans that an exporter was given and has not settled.",
            ),
            (
                rising,
                semconv.SDK_EXPORTER_SPAN_EXPORTED,
                self._exported,
                "Spans whose export has ended, with success or without.",
            ),
        ):
            create(name, callbacks=[observe], unit="{span}", description=description)

    def watch(
        self,
        owner: object,
        pipelines: Iterable[Delivering],
        open_spans: Callable[[], Iterable[Span]],
    ) -> None:
        """Observe what belongs to `owner`, which is held weakly."""
        self.forget(owner)
        components = tuple(self._components(pipelines))
        for component in components:
            component.pipeline.time_exports(partial(self._record, component.exporter))
        # Replaced, not changed: a reader's thread may be going through it.
        self._watched = *self._watched, _Watched(weakref.ref(owner), components, open_spans)

    def forget(self, owner: object) -> None:
        """Observe it no longer; silent when it was not."""
        gone = owner, None
        self._watched = tuple(kept for kept in self._watched if kept.owner() not in gone)

    def _components(self, pipelines: Iterable[Delivering]) -> Iterator[_Component]:
        """Names of a type and a number, the lowest that is free, so that they come again."""
        taken = {
            attributes[semconv.OTEL_COMPONENT_NAME]
            for watched in self._watched
            for component in watched.components
            for attributes in (component.processor, component.exporter)
        }

        def named(kind: str) -> _Attributes:
            name = next(name for number in count() if (name := f"{kind}/{number}") not in taken)
            taken.add(name)
            return {semconv.OTEL_COMPONENT_TYPE: kind, semconv.OTEL_COMPONENT_NAME: name}

        for pipeline in pipelines:
            yield _Component(pipeline, named(_PROCESSOR), named(component_type(pipeline.exporter)))

    def _record(self, exporter: _Attributes, seconds: float, outcome: Outcome) -> None:
        self._duration.record(seconds, {**exporter, **failure_attributes(outcome)})

    # ---- callbacks, in the thread of whoever collects

    def _alive(self) -> Iterator[_Watched]:
        return (watched for watched in self._watched if watched.owner() is not None)

    def _each(self) -> Iterator[tuple[_Component, ExporterStatistics]]:
        for watched in self._alive():
            for component in watched.components:
                yield component, component.pipeline.statistics()

    def _live(self, _: CallbackOptions) -> Iterator[Observation]:
        # One observation for each set of attributes: the spans of several tracings add up.
        spans = Counter(
            bool(span._trace_flags & TraceFlags.SAMPLED)
            for watched in self._alive()
            for span in watched.open_spans()
        )
        for sampled, number in spans.items():
            result = "RECORD_AND_SAMPLE" if sampled else "RECORD_ONLY"
            yield Observation(number, {semconv.OTEL_SPAN_SAMPLING_RESULT: result})

    def _queue_size(self, _: CallbackOptions) -> Iterator[Observation]:
        for component, figures in self._each():
            yield Observation(figures.queued, component.processor)

    def _queue_capacity(self, _: CallbackOptions) -> Iterator[Observation]:
        for watched in self._alive():
            for component in watched.components:
                yield Observation(component.pipeline.capacity, component.processor)

    def _processed(self, _: CallbackOptions) -> Iterator[Observation]:
        for component, figures in self._each():
            dropped = sum(figures.dropped.values())
            handed_on = figures.accepted - figures.queued - dropped
            yield Observation(handed_on, component.processor)
            for reason, number in figures.dropped.items():
                error = _ERRORS.get(reason, reason)
                yield Observation(number, {**component.processor, semconv.ERROR_TYPE: error})

    def _in_flight(self, _: CallbackOptions) -> Iterator[Observation]:
        for component, figures in self._each():
            yield Observation(figures.in_flight, component.exporter)

    def _exported(self, _: CallbackOptions) -> Iterator[Observation]:
        for component, figures in self._each():
            yield Observation(figures.exported + figures.replayed, component.exporter)
            if figures.failed:
                yield Observation(
                    figures.failed, {**component.exporter, semconv.ERROR_TYPE: _OTHER}
                )

    def __repr__(self) -> str:
        return f"<SelfMetrics of {len(list(self._alive()))} tracings>"


def failure_attributes(outcome: Outcome) -> Mapping[str, str | int]:
    """What the conventions say of an export that failed, also in part; nothing of a success."""
    if isinstance(outcome, Delivered):
        return {semconv.ERROR_TYPE: "rejected"} if outcome.rejected else {}
    kind, _, code = outcome.reason.partition("_")
    if kind == "http" and code.isdecimal():
        return {semconv.ERROR_TYPE: code, semconv.HTTP_RESPONSE_STATUS_CODE: int(code)}
    if kind == "grpc":
        code = code.upper()
        return {semconv.ERROR_TYPE: code, semconv.RPC_RESPONSE_STATUS_CODE: code}
    return {semconv.ERROR_TYPE: outcome.reason}


def component_type(exporter: Exporter) -> str:
    """What the conventions call an exporter: a name of theirs, or that of its class."""
    known: object = getattr(exporter, "component_type", None)
    if isinstance(known, str):
        return known
    kind = type(exporter.exporter if isinstance(exporter, SyncExporterAdapter) else exporter)
    if kind.__module__.startswith("opentelemetry.exporter.zipkin."):
        return "zipkin_http_span_exporter"
    return f"{kind.__module__}.{kind.__qualname__}"


_process: SelfMetrics | None = None


def of_process() -> SelfMetrics:
    """The one of the process's meter provider, present or still to come."""
    global _process
    if _process is None:
        _process = SelfMetrics(metrics.get_meter("asynctrace", schema_url=semconv.SCHEMA_URL))
    return _process

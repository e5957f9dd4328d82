"""A provider with deterministic ids and time whose spans, bytes and faults can be looked at."""

from __future__ import annotations

import itertools
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from asynctrace.trace.encoding import encode
from asynctrace.trace.provider import TracerProvider
from asynctrace.trace.span import Span
from asynctrace.trace.tracer import Tracer


class Clock:
    """Nanoseconds that stand still until they are set."""

    def __init__(self, now: int = 1_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class CountingIds(IdGenerator):
    """1, 2, 3, ... for traces and for spans."""

    def __init__(self, *, is_random: bool = False) -> None:
        self._traces = itertools.count(1)
        self._spans = itertools.count(1)
        self._is_random = is_random

    def generate_trace_id(self) -> int:
        return next(self._traces)

    def generate_span_id(self) -> int:
        return next(self._spans)

    def is_trace_id_random(self) -> bool:
        return self._is_random


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.faults: list[tuple[str, str]] = []
        self.flushes: list[float] = []
        self.shutdowns = 0

    def on_end(self, span: Span) -> None:
        self.spans.append(span)

    def must_not_wait(self) -> bool:
        return False

    def force_flush(self, timeout: float) -> bool:
        self.flushes.append(timeout)
        return True

    def shutdown(self) -> None:
        self.shutdowns += 1

    def fault(self, where: str, error: BaseException) -> None:
        self.faults.append((where, type(error).__name__))


class Traced:
    """A provider, its sink, and a tracer of it."""

    def __init__(self, **options: Any) -> None:
        self.sink = Sink()
        self.clock = Clock()
        defaults: dict[str, Any] = {
            "sampler": ALWAYS_ON,
            "resource": Resource({"service.name": "test"}),
            "clock": self.clock,
            "sink": self.sink,
        }
        self.provider = TracerProvider(**defaults | options)
        tracer = self.provider.get_tracer("tests", "1.0", "https://schema")
        assert isinstance(tracer, Tracer)
        self.tracer = tracer

    def span(self, *args: Any, **kwargs: Any) -> Span:
        """A new span, which must be a recorded one."""
        span = self.tracer.start_span(*args or ("test",), **kwargs)
        assert isinstance(span, Span)
        return span


def message(span: ReadableSpan) -> SpanMessage:
    """What a collector reads of the span's bytes."""
    [parsed] = ScopeSpans.FromString(encode(span)).spans
    return parsed


def remote(
    trace_id: int = 0xA,
    span_id: int = 0xB,
    *,
    flags: int = 1,
    is_remote: bool = True,
    state: TraceState | None = None,
) -> NonRecordingSpan:
    """A span of another process, as the SDK's propagators give it."""
    return NonRecordingSpan(SpanContext(trace_id, span_id, is_remote, TraceFlags(flags), state))

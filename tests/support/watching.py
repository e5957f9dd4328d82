"""See the spans of a Tracing end without being one of its processors.

Where there is a processor, a span is started and ended by the careful path, since the processor
wants to be told of both. A service has none, and its spans take the short one.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from asynctrace.tracing import Tracing


class _Tee:
    """A sink before which somebody else sees each span."""

    def __init__(self, sink: Any, watcher: SpanProcessor) -> None:
        self._sink = sink
        self._watcher = watcher

    def on_end(self, span: ReadableSpan) -> None:
        self._watcher.on_end(span)
        self._sink.on_end(span)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


def watch(tracing: Tracing, watcher: SpanProcessor) -> None:
    """Tell `watcher` the end of each span of `tracing` from now on, in whatever thread."""
    core = tracing.tracer_provider._core
    core.sink = _Tee(core.sink, watcher)
    core._choose()
    assert core.quick_rules is not None
    assert core.quick_end is not None

"""The user's span processors, each contained: one that raises harms nobody else."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
)
from opentelemetry.sdk.trace import Span as SdkSpan

if TYPE_CHECKING:
    from .attributes import Fault


def _nothing() -> None: ...


class Processors(SynchronousMultiSpanProcessor):
    """Calls processors in the order they were added.

    A list, because appending to one is atomic: there is no lock that a fork could leave locked.
    """

    def __init__(self, fault: Fault, *, changed: Callable[[], None] = _nothing) -> None:
        """`changed` is called when there are more processors, or others."""
        self.added: list[SpanProcessor] = []
        self._changed = changed
        self._is_shut_down = False
        self._fault = fault

    @property
    def _span_processors(self) -> tuple[SpanProcessor, ...]:
        """The SDK's field: tools in the wild read it, and replace it to reorder the processors."""
        return tuple(self.added)

    @_span_processors.setter
    def _span_processors(self, processors: tuple[SpanProcessor, ...]) -> None:
        self.added = list(processors)
        self._changed()

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        self.added.append(span_processor)
        self._changed()

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        for processor in self.added:
            try:
                processor.on_start(span, parent_context=parent_context)
            except Exception as error:
                self._fault(_hook(processor, "on_start"), error)

    def _on_ending(self, span: SdkSpan) -> None:
        for processor in self.added:
            # An older SDK, and a processor that only looks like one, has no such hook.
            on_ending: Callable[[SdkSpan], None] | None = getattr(processor, "_on_ending", None)
            if on_ending is None:
                continue
            try:
                on_ending(span)
            except Exception as error:
                self._fault(_hook(processor, "_on_ending"), error)

    def on_end(self, span: ReadableSpan) -> None:
        for processor in self.added:
            try:
                processor.on_end(span)
            except Exception as error:
                self._fault(_hook(processor, "on_end"), error)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flushes one after another within `timeout_millis`; True when every one did."""
        deadline = monotonic() + timeout_millis / 1000
        flushed = True
        for processor in self.added:
            left = int((deadline - monotonic()) * 1000)
            if left <= 0:
                return False
            try:
                if processor.force_flush(left) is False:
                    flushed = False
            except Exception as error:
                self._fault(_hook(processor, "force_flush"), error)
                flushed = False
        return flushed

    def shutdown(self) -> None:
        """Shuts one down after another; a second call does nothing."""
        if self._is_shut_down:
            return
        self._is_shut_down = True
        for processor in self.added:
            try:
                processor.shutdown()
            except Exception as error:
                self._fault(_hook(processor, "shutdown"), error)

    def __repr__(self) -> str:
        return f"Processors({', '.join(type(processor).__name__ for processor in self.added)})"


def _hook(processor: SpanProcessor, name: str) -> str:
    return f"{type(processor).__name__}.{name}"

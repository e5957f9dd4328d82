"""A running tracer whose ended spans can be looked at, for the tests of context and worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from asynctrace.trace import delegate
from asynctrace.trace.provider import TracerProvider


class Recording:
    """A sink that keeps the spans, in the order of their ends."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.spans: list[ReadableSpan] = []
        self.tracer_provider = TracerProvider(
            sampler=sampler, resource=Resource.get_empty(), sink=self
        )

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)

    def must_not_wait(self) -> bool:
        return False

    def force_flush(self, timeout: float) -> bool:
        return True

    def shutdown(self) -> None:
        pass

    def fault(self, where: str, error: BaseException) -> None:
        raise AssertionError(f"{where} failed") from error

    def one(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        [span] = [span for span in self.spans if span.name == name]
        return span

    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def parents(self) -> dict[str, str | None]:
        """The name of each span's parent; None for a root, "?" for a parent that is not here."""
        by_id = {span.context.span_id: span.name for span in self.spans}
        return {
            span.name: None if span.parent is None else by_id.get(span.parent.span_id, "?")
            for span in self.spans
        }


@contextmanager
def recording(sampler: Sampler = ALWAYS_ON) -> Iterator[Recording]:
    """Make a recording tracer the one that runs."""
    record = Recording(sampler)
    delegate.activate(record.tracer_provider)
    try:
        yield record
    finally:
        delegate.deactivate(record.tracer_provider)

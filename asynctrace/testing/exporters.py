"""Exporters that keep what they are given."""

from __future__ import annotations

from asynctrace.export.contracts import Batch, Delivered, Outcome
from asynctrace.otlp.decode import decode_request
from asynctrace.otlp.records import SpanRecord


class InMemoryExporter:
    """Keeps every span as the record that a collector would have read from the wire.

    ::

        exporter = InMemoryExporter()
        async with asynctrace.init(exporter=exporter, set_global=False) as tracing:
            ...
            await tracing.force_flush()
        assert exporter.named("GET /orders/{id}")
    """

    needs_spans = False

    def __init__(self, *, name: str = "memory") -> None:
        self.name = name
        self.spans: list[SpanRecord] = []

    def named(self, name: str) -> list[SpanRecord]:
        """The spans of that name, in the order in which they ended."""
        return [span for span in self.spans if span.name == name]

    def clear(self) -> None:
        """Forget what has come so far."""
        self.spans.clear()

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        """Keep the batch."""
        return self._keep(batch)

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        """Keep the batch."""
        return self._keep(batch)

    def _keep(self, batch: Batch) -> Outcome:
        self.spans.extend(decode_request(batch.to_otlp()))
        return Delivered()

    async def close(self) -> None:
        """Nothing is bound to the loop."""

    async def shutdown(self) -> None:
        """What was kept stays readable."""

    def after_fork(self) -> None:
        self.clear()

    def __repr__(self) -> str:
        return f"<InMemoryExporter {len(self.spans)} spans>"

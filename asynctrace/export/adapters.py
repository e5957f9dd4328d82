"""OpenTelemetry's own, synchronous `SpanExporter`s in our pipeline."""

from __future__ import annotations

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from asynctrace import _threads

from .contracts import Batch, Delivered, Outcome, Undelivered


class SyncExporterAdapter:
    """Runs an SDK `SpanExporter` in a daemon thread, so that it can block nobody.

    An export that hangs is left behind at its deadline: the process does not wait for its thread,
    and while it hangs the exporter is not called again, as its contract demands. Its spans are not
    sent again either, as they may arrive.
    """

    needs_spans = True

    def __init__(self, exporter: SpanExporter, *, name: str | None = None) -> None:
        self.name = name or type(exporter).__name__
        self.exporter = exporter
        self._running = False
        self._closed = False
        self._begun: Batch | None = None

    def has_begun(self, batch: Batch) -> bool:
        """Whether the exporter has been called with `batch`, whatever became of it."""
        return batch is self._begun

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        """Hand the spans to the exporter; its result is success or failure and nothing more."""
        if self._running:
            return Undelivered("busy", "the last export has not returned", retryable=True)
        self._running = True
        self._begun = batch
        try:
            return await _threads.call(self._export, batch)
        except RuntimeError:  # perhaps no thread was to be had
            if self._running:
                self._running = False
                self._begun = None
            raise

    def _export(self, batch: Batch) -> Outcome:
        try:
            with suppress_instrumentation():  # its requests must not become spans to be exported
                result = self.exporter.export(batch.spans)
        finally:
            self._running = False
        if result is SpanExportResult.SUCCESS:
            return Delivered()
        return Undelivered("exporter_failure", f"{self.name} returned {result}")

    async def close(self) -> None:
        """Nothing here is bound to the loop; the exporter itself ends in `shutdown`."""

    async def shutdown(self) -> None:
        """Shut the exporter down, once, in a daemon thread."""
        if not self._closed:
            self._closed = True
            await _threads.call(self.exporter.shutdown)

    def after_fork(self) -> None:
        self._running = False
        self._begun = None

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        # It may hang, no thread can be started any more, and nobody could cut it.
        del deadline
        return Undelivered("exit", f"{self.name} cannot be trusted to return in time")

    def __repr__(self) -> str:
        return f"<SyncExporterAdapter {self.name}{' busy' if self._running else ''}>"

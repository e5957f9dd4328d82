"""What an exporter said it had delivered, span by span: to be compared with what was received."""

from __future__ import annotations

from asynctrace.export.contracts import Batch, Delivered, Exporter, Outcome
from tests.support.batches import span_ids


class Witness:
    """Stands between the pipeline and an exporter, and remembers."""

    needs_spans = False

    def __init__(self, exporter: Exporter) -> None:
        self.name = exporter.name
        self.delivered: list[str] = []
        """The span ids of the batches of which the exporter said that they were taken."""
        self.attempted: set[str] = set()
        self._exporter = exporter

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        ids = span_ids(batch)
        self.attempted.update(ids)
        outcome = await self._exporter.export(batch, deadline)
        if isinstance(outcome, Delivered):
            self.delivered += ids
        return outcome

    async def close(self) -> None:
        await self._exporter.close()

    async def shutdown(self) -> None:
        await self._exporter.shutdown()

    def after_fork(self) -> None:
        self._exporter.after_fork()

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        return self._exporter.export_at_exit(batch, deadline)

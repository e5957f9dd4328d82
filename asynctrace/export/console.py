"""Spans on standard output, one JSON line each."""

from __future__ import annotations

import sys
from typing import TextIO

from asynctrace import _threads

from .contracts import Batch, Delivered, Outcome


class ConsoleExporter:
    """Writes each span as one line of JSON to a text stream, in a daemon thread."""

    needs_spans = True

    def __init__(self, stream: TextIO | None = None, *, name: str = "console") -> None:
        self.name = name
        self._stream = stream

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        """Write the batch; a terminal or a pipe may block for as long as it likes."""
        del deadline
        await _threads.call(self._write, batch)
        return Delivered()

    def _write(self, batch: Batch) -> None:
        stream = self._stream or sys.stdout
        stream.write("".join(f"{span.to_json(indent=None)}\n" for span in batch.spans))
        stream.flush()

    async def close(self) -> None:
        """Nothing is bound to the loop."""

    async def shutdown(self) -> None:
        """The stream is not ours to close."""

    def after_fork(self) -> None:
        """Nothing is held."""

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        del deadline
        self._write(batch)
        return Delivered()

    def __repr__(self) -> str:
        return "<ConsoleExporter>"

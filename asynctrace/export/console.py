"""Spans on standard output: trees for people, lines of JSON for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TextIO

from asynctrace import tree
from asynctrace.otlp.decode import decode_request
from asynctrace.otlp.records import SpanRecord

from .contracts import Batch
from .writing import WritingExporter

USUAL_WIDTH = 100
"""Cells of a terminal that does not tell."""


class ConsoleExporter(WritingExporter):
    """Writes to a text stream, by default to standard output.

    To a terminal it draws one tree for each trace of a batch. To anything else, such as a pipe or
    a file, it writes one line of JSON for each span, in the form of OpenTelemetry's `to_json`.
    """

    needs_spans = True

    def __init__(self, stream: TextIO | None = None, *, name: str = "console") -> None:
        super().__init__(name=name)
        self._stream = stream

    def _write(self, batch: Batch) -> None:
        stream = self._stream or sys.stdout
        if stream is None:  # Python's own way to say that a process has none
            raise OSError("the process has no standard output")
        if stream.isatty():
            text = _writable(trees(decode_request(batch.to_otlp()), width=_width(stream)), stream)
        else:
            text = "".join(f"{span.to_json(indent=None)}\n" for span in batch.spans)
        stream.write(text)
        stream.flush()


def trees(spans: Sequence[SpanRecord], *, width: int = USUAL_WIDTH) -> str:
    """One drawing for each trace, an empty line after each.

    A parent that is not among the spans runs still, or in another process. Nothing is wrong with
    that here, so the span stands at the top without a mark.
    """
    here = {(span.trace_id, span.span_id) for span in spans}
    local = [
        span if (span.trace_id, span.parent_span_id) in here else replace(span, parent_span_id="")
        for span in spans
    ]
    return "".join(f"{tree.draw(trace, width=width)}\n\n" for trace in tree.build(local))


def _width(stream: TextIO) -> int:
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    return USUAL_WIDTH


def _writable(text: str, stream: TextIO) -> str:
    """The text as far as the terminal's encoding has its characters."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)

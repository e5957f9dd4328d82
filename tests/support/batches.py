"""Batches of spans without a tracer."""

from __future__ import annotations

from itertools import count

from opentelemetry.sdk.resources import Resource

from asynctrace.export.contracts import Batch
from asynctrace.otlp.decode import decode_request
from asynctrace.otlp.encode import SpanEncoder

_ids = count(1)


def batch(spans: int = 1, *, size: int = 0) -> Batch:
    """A batch of new spans; `size` bytes of ballast in each."""
    return Batch([(None, _span(size), None) for _ in range(spans)], Resource.get_empty())


def span_ids(sent: Batch) -> list[str]:
    return [span.span_id for span in decode_request(sent.to_otlp())]


def _span(size: int) -> bytes:
    number = next(_ids)
    ballast = {"ballast": "x" * size} if size else {}
    return SpanEncoder().span(
        number, number, "", 0, 0x101, "work", 1, 1, 2, ballast, 0, (), 0, (), 0, 0, None
    )

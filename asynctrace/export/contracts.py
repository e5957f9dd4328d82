"""What an exporter is: who calls it, how often, and what it may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from asynctrace.otlp.encode import ScopeBytes, encode_resource, encode_scope, join_request

Item = tuple[InstrumentationScope | None, bytes, ReadableSpan | None]
"""One ended span on its way: its scope, its OTLP bytes, and itself only where asked for.

A plain tuple: one is made per span and exporter, and a named one costs ten times as much.
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Spans that are exported together, all of one resource."""

    items: Sequence[Item]
    resource: Resource

    def __len__(self) -> int:
        return len(self.items)

    @property
    def size(self) -> int:
        """Bytes of the spans."""
        return sum(len(data) for _, data, _ in self.items)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The span objects, for exporters with `needs_spans`."""
        return [span for _, _, span in self.items if span is not None]

    def to_otlp(self) -> bytes:
        """The `ExportTraceServiceRequest` of this batch, joined from bytes that are ready."""
        # By identity: the spans of a tracer share one scope object, and its hash is slow.
        groups: dict[int, tuple[InstrumentationScope | None, list[bytes]]] = {}
        last: InstrumentationScope | None = None
        spans: list[bytes] = []
        groups[id(last)] = last, spans
        for scope, data, _ in self.items:
            if scope is not last:  # most often it is that of the span before
                last, spans = groups.setdefault(id(scope), (scope, []))
            spans.append(data)
        scopes = [(_scope_bytes(scope), spans) for scope, spans in groups.values()]
        attributes, schema_url = self.resource.attributes, self.resource.schema_url
        return join_request(encode_resource(attributes, schema_url), scopes)

    def __repr__(self) -> str:
        return f"<Batch of {len(self.items)} spans>"


def _scope_bytes(scope: InstrumentationScope | None) -> ScopeBytes:
    if scope is None:
        return encode_scope("", "", None, "")
    return encode_scope(scope.name, scope.version, scope.attributes, scope.schema_url)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has taken the batch, except for `rejected` spans of it."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The receiver has not taken the batch, or nobody knows whether it has.

    `reason` is short and of low cardinality ("timeout", "unreachable", "http_503"); `message` is
    for people. `retry_after` is what the receiver asked for, in seconds. `too_large` says that a
    smaller request might be taken.
    """

    reason: str
    message: str = ""
    retryable: bool = False
    retry_after: float | None = None
    too_large: bool = False


Outcome = Delivered | Undelivered


@runtime_checkable
class Exporter(Protocol):
    """Sends batches somewhere. The pipeline owns it: one exporter, one pipeline.

    All methods run on the pipeline's host loop, which changes when the process forks or when the
    loop of `init` is closed: what is bound to a loop is made on first use and given up in `close`.
    """

    name: str
    """Stands in reports, statistics and logs."""
    needs_spans: bool
    """Whether batches keep the span objects beside their bytes."""

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        """Make one attempt to deliver `batch` before `deadline` (of `time.monotonic`).

        Never called again before the last call has ended. Retrying is the pipeline's business.
        The pipeline cancels the call at the deadline. An exception is a permanent failure.
        """

    async def close(self) -> None:
        """Give up what is bound to this loop. Called when the host loop ends; may be called
        twice, and `export` may follow on another loop."""

    async def shutdown(self) -> None:
        """End for good: called once, after the last `export` and `close`."""

    def after_fork(self) -> None:
        """In a forked child: forget connections without touching the parent's sockets."""

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        """One attempt without asyncio and without new threads, while the interpreter exits."""


@runtime_checkable
class Unrepeatable(Protocol):
    """An exporter whose calls go on when they are cancelled, and may yet deliver."""

    def has_begun(self, batch: Batch) -> bool:
        """Whether `batch` was handed on, so that another attempt could deliver it twice."""


class SpanDropReason:
    """Why a span was dropped: the closed list of keys in reports and statistics."""

    QUEUE_FULL = "queue_full"
    QUEUE_BYTES = "queue_bytes"
    CLOSED = "closed"
    ENCODING = "encoding"
    DEADLINE = "deadline"
    CANCELLED = "shutdown_cancelled"
    EXIT = "exit"
    TOO_LARGE = "too_large"
    """Alone in a request, and still more than the receiver takes."""
    SPOOL_FULL = "spool_full"
    """The disk is full, or there is nothing more to delete below `spool_max_bytes`."""
    SPOOL_EVICTED = "spool_evicted"
    """Written to disk, and deleted there unsent, so that newer spans fit below the bound."""
    SPOOL_ERROR = "spool_error"
    """The spool cannot be written for another reason, which `last_error` and the log tell."""

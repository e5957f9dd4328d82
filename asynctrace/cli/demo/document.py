"""A run of the demo as one JSON document, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asynctrace.cli.demo.judge import spans_by_service
from asynctrace.cli.demo.processes import Ended
from asynctrace.cli.demo.run import Seen
from asynctrace.otlp.records import SpanRecord
from asynctrace.tree import Node, Trace


def document(seen: Seen, problems: Sequence[str]) -> dict[str, Any]:
    """What `--json` prints. Times are seconds; `traces` is null with somebody else's collector."""
    arrived = None if seen.traces is None else spans_by_service(seen.traces)
    return {
        "ok": not problems,
        "problems": list(problems),
        "collector": seen.endpoint,
        "orders": [
            {
                "number": reply.order.number,
                "item": reply.order.item,
                "status": reply.status,
                "expected_status": reply.order.status,
                "error": reply.error or None,
            }
            for reply in seen.replies
        ],
        "services": [
            _service(service, None if arrived is None else arrived.get(service.name, 0))
            for service in seen.services
        ],
        "traces": None if seen.traces is None else [_trace(trace) for trace in seen.traces],
    }


def _service(service: Ended, arrived: int | None) -> dict[str, Any]:
    delivery = service.delivery
    return {
        "name": service.name,
        "pid": service.pid,
        "exit_code": service.exit_code,
        "stopped_in": service.elapsed,
        "spans": None
        if delivery is None
        else {
            "accepted": delivery.accepted,
            "exported": delivery.exported,
            "failed": delivery.failed,
            "dropped": dict(delivery.dropped),
            "pending": delivery.pending,
            "shutdown_took": delivery.elapsed,
            "errors": list(delivery.errors),
        },
        "arrived": arrived,
    }


def _trace(trace: Trace[SpanRecord]) -> dict[str, Any]:
    return {
        "trace_id": trace.trace_id,
        "duration": trace.duration,
        "spans": [_span(node) for node in trace.nodes],
    }


def _span(node: Node[SpanRecord]) -> dict[str, Any]:
    return {
        "span_id": node.span.span_id,
        "parent_span_id": node.span.parent_span_id or None,
        "depth": node.depth,
        "service": node.service,
        "name": node.span.name,
        "kind": node.kind,
        "start": node.offset,
        "duration": node.duration,
        "failed": node.failed,
        "flaws": [flaw.value for flaw in node.flaws],
    }

"""What a run of the demo showed -> what is wrong with it; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asynctrace.cli.demo.compare import compare
from asynctrace.cli.demo.processes import Delivery, Ended
from asynctrace.cli.demo.run import Reply, Seen
from asynctrace.cli.demo.shop import Order, expected_trace
from asynctrace.otlp.records import SpanRecord
from asynctrace.tree import Trace, count


def problems(seen: Seen) -> list[str]:
    """Everything that is not as it has to be, one sentence each."""
    found = [problem for reply in seen.replies for problem in _reply_problems(reply)]
    found += [problem for service in seen.services for problem in _service_problems(service)]
    if seen.traces is not None:
        orders = [reply.order for reply in seen.replies]
        found += _trace_problems(orders, seen.traces)
        found += _arrival_problems(seen.services, seen.traces)
    return found


def _reply_problems(reply: Reply) -> Iterator[str]:
    if reply.status is None:
        yield f"{reply.order}: no answer, {reply.error}"
    elif reply.status != reply.order.status:
        yield f"{reply.order}: answered {reply.status}, expected {reply.order.status}"


def _service_problems(service: Ended) -> Iterator[str]:
    if service.exit_code != 0 or service.delivery is None:
        words = f", its last words: {service.last_words}" if service.last_words else ""
        yield f"{service.name}: ended with exit code {service.exit_code}{words}"
    if service.delivery is None:
        yield f"{service.name}: gave no account of its spans"
    elif service.delivery.exported != service.delivery.accepted:
        yield f"{service.name}: {_shortfall(service.delivery)}"


def _shortfall(delivery: Delivery) -> str:
    fates = {"failed": delivery.failed, **delivery.dropped, "pending": delivery.pending}
    reasons = [f"{number} {fate}" for fate, number in fates.items() if number]
    lost = delivery.accepted - delivery.exported
    told = f"{lost} of {count(delivery.accepted, 'span')} not delivered ({', '.join(reasons)})"
    return ": ".join([told, *delivery.errors])


def _trace_problems(orders: Sequence[Order], traces: Sequence[Trace[SpanRecord]]) -> Iterator[str]:
    by_number: dict[str, list[Trace[SpanRecord]]] = {}
    for trace in traces:
        by_number.setdefault(_order_number(trace), []).append(trace)
    for order in orders:
        parts = by_number.pop(str(order.number), [])
        if not parts:
            yield f"{order}: no trace arrived"
            continue
        for problem in compare(expected_trace(order), parts):
            yield f"{order}: {problem}"
    for strays in by_number.values():
        for trace in strays:
            names = ", ".join(f"{node.service} {node.span.name!r}" for node in trace.nodes[:5])
            yield f"trace {trace.trace_id} belongs to no order: {names}"


def _order_number(trace: Trace[SpanRecord]) -> str:
    """The services put it at the end of every path that they ask each other for."""
    for node in trace.nodes:
        for name in ("url.path", "url.full"):
            if name in node.span.attributes:
                return str(node.span.attributes[name]).rpartition("/")[2]
    return ""


def _arrival_problems(
    services: Sequence[Ended], traces: Sequence[Trace[SpanRecord]]
) -> Iterator[str]:
    arrived = spans_by_service(traces)
    for service in services:
        if service.delivery and service.delivery.exported != arrived.get(service.name, 0):
            yield (
                f"{service.name}: says that it exported {service.delivery.exported} spans,"
                f" {arrived.get(service.name, 0)} arrived"
            )


def spans_by_service(traces: Sequence[Trace[SpanRecord]]) -> dict[str, int]:
    """How many spans of each service arrived."""
    arrived: dict[str, int] = {}
    for trace in traces:
        for node in trace.nodes:
            arrived[node.service] = arrived.get(node.service, 0) + 1
    return arrived

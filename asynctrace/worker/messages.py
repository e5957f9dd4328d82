"""``process`` and ``publish``: one message, one span, by the conventions for messaging.

https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from asynctrace.context import (
    Attributes,
    HasTracerProvider,
    Relation,
    SpanScope,
    links_to,
    without_span,
)
from asynctrace.propagation import Carrier, extract, inject
from asynctrace.semconv import (
    MESSAGING_DESTINATION_NAME,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
)


def process(
    carrier: Carrier | None,
    name: str,
    *,
    relation: Relation = "child",
    system: str | None = None,
    attributes: Attributes | None = None,
    tracing: HasTracerProvider | None = None,
) -> SpanScope:
    """A CONSUMER span around the work on one received message::

        with asynctrace.process(message.headers, "orders") as span:
            ...

    `carrier` holds the message's headers, `name` is the queue, topic or stream that it came from,
    `system` the broker as the conventions call it ("kafka", "redis", ...).

    The span belongs to the sender's trace (``relation="child"``), or begins a trace linked to it
    (``"link"``). It never belongs to what is current here, which is the consumer's own business;
    without a sender's context it begins a trace. Errors are told as by :func:`asynctrace.span`.
    """
    return consumer_scope(
        extract(carrier, Context()),
        name,
        relation=relation,
        attributes=_attributes("process", "process", name, system, attributes),
        tracing=tracing,
    )


def publish(
    name: str,
    carrier: Carrier,
    *,
    system: str | None = None,
    attributes: Attributes | None = None,
    tracing: HasTracerProvider | None = None,
) -> SpanScope:
    """A PRODUCER span around the sending of one message; its context is put into `carrier`::

        headers = {}
        with asynctrace.publish("orders", headers):
            await broker.send("orders", body, headers=headers)

    `name`, `system` and `attributes` as for :func:`process`. `carrier` is filled on entry.
    """
    return _PublishScope(
        carrier,
        f"publish {name}",
        kind=SpanKind.PRODUCER,
        attributes=_attributes("publish", "send", name, system, attributes),
        tracing=tracing,
    )


def consumer_scope(
    sender: Context,
    name: str | None,
    *,
    relation: Relation,
    attributes: Attributes,
    tracing: HasTracerProvider | None = None,
) -> SpanScope:
    """The span of one message whose sender's span and baggage are in `sender`, and nothing else."""
    link = relation == "link"
    return SpanScope(
        f"process {name}" if name else "process",
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        links=links_to(trace_api.get_current_span(sender)) if link else (),
        base=without_span(sender) if link else sender,
        tracing=tracing,
    )


class _PublishScope(SpanScope):
    """A scope that tells the message which span it was sent in."""

    __slots__ = ("_carrier",)

    def __init__(
        self,
        carrier: Carrier,
        name: str,
        *,
        kind: SpanKind,
        attributes: Attributes,
        tracing: HasTracerProvider | None,
    ) -> None:
        super().__init__(name, kind=kind, attributes=attributes, tracing=tracing)
        self._carrier = carrier

    def __enter__(self) -> trace_api.Span:
        span = super().__enter__()
        inject(self._carrier)
        return span


def _attributes(
    operation: str, kind: str, destination: str, system: str | None, more: Attributes | None
) -> Attributes:
    attributes: dict[str, AttributeValue] = {
        MESSAGING_OPERATION_NAME: operation,
        MESSAGING_OPERATION_TYPE: kind,
        MESSAGING_DESTINATION_NAME: destination,
    }
    if system is not None:
        attributes[MESSAGING_SYSTEM] = system
    return attributes | dict(more) if more else attributes

"""``process`` and ``publish``: one message (or batch), one span, by the messaging conventions.

https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

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
from asynctrace.context.stopping import CURRENT
from asynctrace.context.tasks import require_relation
from asynctrace.propagation import Carrier, extract, inject
from asynctrace.semconv import (
    MESSAGE_DELIVERY_COUNT,
    MESSAGE_REDELIVERED,
    MESSAGING_BATCH_MESSAGE_COUNT,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_MESSAGE_ID,
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
    message_id: str | None = None,
    redelivered: bool = False,
    delivery_count: int | None = None,
    attributes: Attributes | None = None,
    tracing: HasTracerProvider | None = None,
) -> SpanScope:
    """A CONSUMER span around the work on one received message::

        with asynctrace.process(message.headers, "orders") as span:
            ...

    `carrier` holds the message's headers, `name` is the queue, topic or stream that it came from,
    `system` the broker as the conventions call it ("kafka", "rabbitmq", ...), `message_id` the
    broker's id. What the broker knows of earlier attempts is `redelivered`, or `delivery_count`: 1
    for the first delivery, more for later ones.

    The span belongs to the sender's trace (``relation="child"``), or begins a trace linked to it
    (``"link"``). It never belongs to what is current here, which is the consumer's own business;
    without a sender's context it begins a trace. Errors are told as by :func:`asynctrace.span`.
    Acknowledge the message inside of the block: then the span covers it, and tells its failure.

    Raises ``ConfigError`` for another `relation`.
    """
    require_relation(relation)
    told = _attributes("process", "process", name, system)
    if message_id is not None:
        told[MESSAGING_MESSAGE_ID] = message_id
    if delivery_count is not None:
        told[MESSAGE_DELIVERY_COUNT] = delivery_count
    if redelivered or (delivery_count or 0) > 1:
        told[MESSAGE_REDELIVERED] = True
    return consumer_scope(
        extract(carrier, Context()),
        name,
        relation=relation,
        attributes=told | dict(attributes or {}),
        tracing=tracing,
    )


def process_batch(
    carriers: Iterable[Carrier | None],
    name: str,
    *,
    system: str | None = None,
    attributes: Attributes | None = None,
    tracing: HasTracerProvider | None = None,
) -> SpanScope:
    """One CONSUMER span around the work on many messages, linked to the sender of each::

        with asynctrace.process_batch([message.headers for message in batch], "orders"):
            ...

    It begins a trace, for it belongs to no single sender; nobody's baggage is taken over. The rest
    as for :func:`process`.
    """
    senders = [trace_api.get_current_span(extract(carrier, Context())) for carrier in carriers]
    told = _attributes("process", "process", name, system)
    told[MESSAGING_BATCH_MESSAGE_COUNT] = len(senders)
    return MessageScope(
        f"process {name}",
        kind=SpanKind.CONSUMER,
        attributes=told | dict(attributes or {}),
        links=[link for sender in senders for link in links_to(sender)],
        base=Context(),
        tracing=tracing,
    )


def publish(
    name: str,
    carrier: Carrier,
    *,
    system: str | None = None,
    message_id: str | None = None,
    attributes: Attributes | None = None,
    tracing: HasTracerProvider | None = None,
) -> SpanScope:
    """A PRODUCER span around the sending of one message; its context is put into `carrier`::

        headers = {}
        with asynctrace.publish("orders", headers):
            await broker.send("orders", body, headers=headers)

    The arguments are as for :func:`process`. `carrier` is filled on entry.
    """
    told = _attributes("publish", "send", name, system)
    if message_id is not None:
        told[MESSAGING_MESSAGE_ID] = message_id
    return _PublishScope(
        carrier,
        f"publish {name}",
        kind=SpanKind.PRODUCER,
        attributes=told | dict(attributes or {}),
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
    return MessageScope(
        f"process {name}" if name else "process",
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        links=links_to(trace_api.get_current_span(sender)) if link else (),
        base=without_span(sender) if link else sender,
        tracing=tracing,
    )


class MessageScope(SpanScope):
    """A scope that :func:`asynctrace.run` waits for, when it ends the program."""

    __slots__ = ("_stop",)

    def __enter__(self) -> trace_api.Span:
        self._stop = CURRENT.get()
        if self._stop is not None:
            self._stop.begin(self)
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(exc_type, error, traceback)
        if self._stop is not None:
            self._stop.end(self)


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
    operation: str, kind: str, destination: str, system: str | None
) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        MESSAGING_OPERATION_NAME: operation,
        MESSAGING_OPERATION_TYPE: kind,
        MESSAGING_DESTINATION_NAME: destination,
    }
    if system is not None:
        attributes[MESSAGING_SYSTEM] = system
    return attributes

"""process and publish: one message, one span on each side, by the messaging conventions."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.context import span
from asynctrace.errors import ConfigError
from asynctrace.worker import extract, inject, process, process_batch, publish
from tests.context.recording import Recording


def test_publish(traced_spans: Recording) -> None:
    """A PRODUCER span, whose own context is what the message carries."""
    headers: dict[str, str] = {}
    with span("request"), publish("orders", headers, system="kafka", attributes={"a": 1}) as sent:
        own = sent.get_span_context()
    assert trace.get_current_span(extract(headers)).get_span_context().span_id == own.span_id
    made = traced_spans.one("publish orders")
    assert made.kind is SpanKind.PRODUCER
    assert traced_spans.parents()["publish orders"] == "request"
    assert made.attributes == {
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "orders",
        "messaging.system": "kafka",
        "a": 1,
    }


def sent_message() -> list[tuple[str, bytes]]:
    """The headers of a message sent with baggage, as a broker's client would give them."""
    headers: list[tuple[str, bytes]] = []
    token = otel_context.attach(baggage.set_baggage("user", "ann"))
    with publish("orders", headers):
        pass
    otel_context.detach(token)
    return headers


async def test_process_as_child(traced_spans: Recording) -> None:
    """A CONSUMER span in the sender's trace, whatever is current in the consumer."""
    headers = sent_message()
    with span("consumer's own"):
        async with process(headers, "orders"):
            assert baggage.get_baggage("user") == "ann"
        assert baggage.get_baggage("user") is None
    made = traced_spans.one("process orders")
    assert made.kind is SpanKind.CONSUMER
    assert traced_spans.parents()["process orders"] == "publish orders"
    assert made.attributes == {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
    }


def test_process_as_link(traced_spans: Recording) -> None:
    """A trace of its own, linked to the sender; the baggage comes along."""
    headers = sent_message()
    with process(headers, "orders", relation="link"):
        assert baggage.get_baggage("user") == "ann"
    made = traced_spans.one("process orders")
    sender = traced_spans.one("publish orders").context
    assert made.parent is None
    assert made.context.trace_id != sender.trace_id
    assert [link.context.span_id for link in made.links] == [sender.span_id]


@pytest.mark.parametrize("relation", ["child", "link"])
@pytest.mark.parametrize("carrier", [None, {}, {"traceparent": "nonsense"}, [("a", b"b")]])
def test_process_without_a_sender(traced_spans: Recording, carrier, relation) -> None:
    """Nothing to be a child of or linked to: a new trace, never the consumer's current one."""
    with span("consumer's own"), process(carrier, "orders", relation=relation):
        assert baggage.get_all() == {}
    made = traced_spans.one("process orders")
    assert (made.parent, made.links) == (None, ())


def test_process_fails(traced_spans: Recording) -> None:
    """A failing message is an error of its span."""
    with pytest.raises(KeyError), process({}, "orders"):
        raise KeyError("x")
    assert traced_spans.one("process orders").status.status_code is StatusCode.ERROR
    assert traced_spans.one("process orders").attributes["error.type"] == "KeyError"


def test_unknown_relation() -> None:
    """It is refused with the remedy, and not taken for another."""
    with pytest.raises(ConfigError, match="link"):
        process({}, "orders", relation="links")  # type: ignore[arg-type]


def test_given_tracing(traced_spans: Recording) -> None:
    """Both use the tracing that they are given."""
    mine = Recording()
    headers: dict[str, str] = {}
    with publish("orders", headers, tracing=mine):
        pass
    with process(headers, "orders", tracing=mine):
        pass
    assert mine.parents() == {"publish orders": None, "process orders": "publish orders"}
    assert traced_spans.names() == []


def test_nothing_runs() -> None:
    """Without tracing the code runs, and the message carries nothing."""
    headers: dict[str, str] = {}
    with publish("orders", headers) as sent, process(headers, "orders") as taken:
        assert not sent.is_recording()
        assert not taken.is_recording()
    inject(headers)
    assert headers == {}


def test_batch(traced_spans: Recording) -> None:
    """One span that begins a trace, linked to every sender; messages without one are counted."""
    batch = [sent_message(), sent_message()]
    with span("consumer's own"), process_batch([*batch, None], "orders", system="kafka"):
        assert baggage.get_all() == {}
    made = traced_spans.one("process orders")
    assert (made.kind, made.parent) == (SpanKind.CONSUMER, None)
    senders = [s.context.span_id for s in traced_spans.spans if s.name == "publish orders"]
    assert [link.context.span_id for link in made.links] == senders
    assert made.attributes == {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
        "messaging.system": "kafka",
        "messaging.batch.message_count": 3,
    }


def test_failing_batch(traced_spans: Recording) -> None:
    """Its failure is the span's."""
    with pytest.raises(KeyError), process_batch([], "orders", attributes={"a": 1}):
        raise KeyError("x")
    made = traced_spans.one("process orders")
    assert (made.attributes["error.type"], made.attributes["a"]) == ("KeyError", 1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, {}),
        ({"delivery_count": 1}, {"asynctrace.message.delivery_count": 1}),
        (
            {"delivery_count": 3},
            {"asynctrace.message.delivery_count": 3, "asynctrace.message.redelivered": True},
        ),
        ({"redelivered": True}, {"asynctrace.message.redelivered": True}),
        ({"message_id": "7"}, {"messaging.message.id": "7"}),
    ],
)
def test_redelivery(traced_spans: Recording, given: dict[str, Any], told: dict[str, Any]) -> None:
    """What the broker knows of the message and of earlier attempts."""
    with process({}, "orders", **given):
        pass
    attributes = traced_spans.one("process orders").attributes
    assert {name: attributes[name] for name in told} == told
    assert len(attributes) == 3 + len(told)


def test_message_id_of_the_sender(traced_spans: Recording) -> None:
    """Where it is known before sending."""
    with publish("orders", {}, message_id="7"):
        pass
    assert traced_spans.one("publish orders").attributes["messaging.message.id"] == "7"

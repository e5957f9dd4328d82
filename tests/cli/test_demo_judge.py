"""What a run of the demo showed, judged without running it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from io import StringIO

from rich.console import Console

from asynctrace.cli.demo.compare import Expected
from asynctrace.cli.demo.document import document
from asynctrace.cli.demo.judge import problems
from asynctrace.cli.demo.processes import Delivery, Ended
from asynctrace.cli.demo.run import SERVICES, Reply, Seen
from asynctrace.cli.demo.shop import Order, expected_trace, orders
from asynctrace.cli.demo.show import show
from asynctrace.otlp.records import ResourceRecord, SpanRecord
from asynctrace.tree import build

KINDS = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
MS = 1_000_000


def spans_of(order: Order) -> list[SpanRecord]:
    """The spans that the services make of an order."""
    return list(_spans(expected_trace(order), "", order, iter(range(1, 99))))


def _spans(
    expected: Expected, parent: str, order: Order, ids: Iterator[int]
) -> Iterator[SpanRecord]:
    number = next(ids)
    path = {"url.path": f"/any/{order.number}"} if expected.kind == "SERVER" else {}
    yield SpanRecord(
        trace_id=f"{order.number:032x}",
        span_id=f"{number:016x}",
        parent_span_id=parent,
        name=expected.name,
        kind=KINDS.index(expected.kind),
        start=number * MS,
        end=(400 if order.item == "piano" and expected.service == "inventory" else 100) * MS,
        attributes=path,
        status_code=2 if expected.failed else 0,
        resource=ResourceRecord(attributes={"service.name": expected.service}),
    )
    for child in expected.children:
        yield from _spans(child, f"{number:016x}", order, ids)


def delivered(number: int) -> Delivery:
    return Delivery(
        number, exported=number, failed=0, dropped={}, pending=0, elapsed=0.01, errors=[]
    )


def good_run() -> Seen:
    """Three orders, all of which went as they had to."""
    placed = orders(3)
    spans = [span for order in placed for span in spans_of(order)]
    counts = dict.fromkeys(SERVICES, 0)
    for span in spans:
        counts[str(span.resource.attributes["service.name"])] += 1
    return Seen(
        replies=tuple(Reply(order, order.status) for order in placed),
        services=tuple(
            Ended(name, 1, exit_code=0, elapsed=0.2, delivery=delivered(n), last_words="")
            for name, n in counts.items()
        ),
        endpoint="http://127.0.0.1:4318",
        traces=tuple(build(spans)),
    )


def without(seen: Seen, name: str) -> Seen:
    """The same run, but all spans named `name` were lost on the way."""
    assert seen.traces is not None
    spans = [n.span for t in seen.traces for n in t.nodes if n.span.name != name]
    return dataclasses.replace(seen, traces=tuple(build(spans)))


def with_service(seen: Seen, **changes: object) -> Seen:
    """The same run, but the first service ended otherwise."""
    first, *others = seen.services
    changed = dataclasses.replace(first, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(seen, services=(changed, *others))


def shown(seen: Seen, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width)
    show(seen, problems(seen), console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_orders_succeed_but_for_one_slow_and_one_failing() -> None:
    """The order of kinds does not depend on how many are sent."""
    assert [order.item for order in orders(5)] == ["lamp", "piano", "unicorn", "lamp", "chair"]
    assert [order.status for order in orders(3)] == [201, 201, 500]
    assert orders(2) == orders(4)[:2]


def test_a_good_run_has_no_problem() -> None:
    """Complete traces, right parents, everything delivered."""
    assert problems(good_run()) == []


def test_lost_spans_are_named_with_their_order() -> None:
    """And the two sides of the delivery do not agree."""
    assert problems(without(good_run(), "process parcels")) == [
        (
            "order 1 (lamp): missing: orders CONSUMER 'process parcels', expected below"
            " orders SERVER 'PUT /orders/{order}'"
        ),
        (
            "order 2 (piano): missing: orders CONSUMER 'process parcels', expected below"
            " orders SERVER 'PUT /orders/{order}'"
        ),
        "orders: says that it exported 8 spans, 6 arrived",
    ]


def test_an_order_without_any_trace_is_told() -> None:
    """Nothing arrived of the second order."""
    seen = good_run()
    assert seen.traces is not None
    first, _, third = seen.traces
    told = problems(dataclasses.replace(seen, traces=(first, third)))
    assert told[0] == "order 2 (piano): no trace arrived"


def test_a_trace_that_belongs_to_no_order_is_told() -> None:
    """A worker that begins traces of its own, for example."""
    seen = good_run()
    assert seen.traces is not None
    [stray] = build([SpanRecord(trace_id="f" * 32, span_id="1" * 16, name="process parcels")])
    told = problems(dataclasses.replace(seen, traces=(*seen.traces, stray)))
    assert told == [
        f"trace {'f' * 32} belongs to no order: unknown_service 'process parcels'",
    ]


def test_replies_are_judged() -> None:
    """A wrong status, and no reply at all."""
    seen = good_run()
    first, second, third = seen.replies
    replies = (
        dataclasses.replace(first, status=500),
        dataclasses.replace(second, status=None, error="ConnectError: refused"),
        third,
    )
    assert problems(dataclasses.replace(seen, replies=replies)) == [
        "order 1 (lamp): answered 500, expected 201",
        "order 2 (piano): no answer, ConnectError: refused",
    ]


def test_a_service_that_did_not_end_well_is_told() -> None:
    """With exit code and last words."""
    seen = with_service(good_run(), exit_code=-9, delivery=None, last_words="oh no")
    assert problems(seen) == [
        "inventory: ended with exit code -9, its last words: oh no",
        "inventory: gave no account of its spans",
    ]


def test_spans_that_were_not_delivered_are_told() -> None:
    """The service's own figures are enough, also with somebody else's collector."""
    delivery = Delivery(
        5, exported=2, failed=1, dropped={"deadline": 2}, pending=0, elapsed=5.0, errors=["refused"]
    )
    seen = with_service(good_run(), delivery=delivery)
    assert problems(dataclasses.replace(seen, traces=None)) == [
        "inventory: 3 of 5 spans not delivered (1 failed, 2 deadline): refused"
    ]


def test_a_good_run_is_shown() -> None:
    """Every service, kind, mark and figure, and the verdict."""
    text = shown(good_run())
    for part in (
        "gateway POST /checkout/{order}",
        "└─ orders process parcels",
        "CONSUMER",
        "◷ slow",
        "✖ error",
        "accepted",
        "stopped",
        "200 ms",
        "✔ 3 traces, 17 spans: every trace is complete and every parent is right.",
    ):
        assert part in text
    assert text.count("◷ slow") == 1
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_bad_run_is_shown_with_everything_that_is_wrong() -> None:
    """The traces that there are, question marks for unknown figures, and the problems."""
    seen = with_service(without(good_run(), "process parcels"), exit_code=1, delivery=None)
    text = shown(seen, width=200)
    assert "5 problems:" in text
    assert "✖ order 1 (lamp): missing: orders CONSUMER 'process parcels'" in text
    assert "?" in text
    assert "✔" not in text


def test_with_another_collector_the_verdict_says_what_was_not_checked() -> None:
    """No trace is claimed to be complete."""
    text = shown(dataclasses.replace(good_run(), traces=None), width=200)
    assert "Every span was delivered to http://127.0.0.1:4318" in text
    assert "can be checked only with the demo's own collector" in text


def test_hostile_last_words_do_not_reach_the_terminal() -> None:
    """Neither escape sequences nor rich's markup."""
    seen = with_service(good_run(), exit_code=1, last_words="\x1b[2J [bold]x[/bold]")
    text = shown(seen, width=200)
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text


def test_the_document_says_all_of_it() -> None:
    """And is JSON."""
    told = json.loads(json.dumps(document(good_run(), [])))
    assert told["ok"] is True
    assert [order["status"] for order in told["orders"]] == [201, 201, 500]
    assert [len(trace["spans"]) for trace in told["traces"]] == [6, 6, 5]
    root, child = told["traces"][0]["spans"][:2]
    assert (root["parent_span_id"], root["service"], root["kind"]) == (None, "gateway", "SERVER")
    assert child["parent_span_id"] == root["span_id"]
    inventory = told["services"][0]
    assert (inventory["name"], inventory["arrived"]) == ("inventory", 3)
    assert inventory["spans"]["exported"] == 3


def test_the_document_of_a_bad_run_has_nulls_where_nothing_is_known() -> None:
    """Unknown is not zero."""
    seen = with_service(dataclasses.replace(good_run(), traces=None), delivery=None)
    told = document(seen, ["bad"])
    assert told["ok"] is False
    assert told["problems"] == ["bad"]
    assert told["traces"] is None
    assert told["services"][0]["spans"] is None
    assert told["services"][0]["arrived"] is None

"""What a span does with what it is given, when it is given it too late, and when it is bad."""

from __future__ import annotations

import copy
import gc
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, TraceState, set_span_in_context

from asynctrace.trace.span import Span
from tests.trace.recording import Traced, message, remote


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Unreadable(Mapping[str, Any]):
    """A mapping in name only."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")

    def __len__(self) -> int:
        return 1


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


# ---- attributes


@pytest.mark.parametrize("value", [Unprintable(), cyclic()], ids=["unprintable", "cyclic"])
@pytest.mark.parametrize(
    "give",
    [
        lambda span, value: span.set_attribute("bad", value),
        lambda span, value: span.set_attributes({"good": 1, "bad": value, "also": 2}),
    ],
    ids=["one", "many"],
)
def test_an_attribute_that_cannot_be_cleaned_is_dropped_alone(
    give: Callable[[Span, Any], None], value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted, logged once, and the others stay."""
    traced = Traced()
    span = traced.span(attributes={"first": 0})
    give(span, value)
    give(span, value)
    assert "bad" not in span.attributes
    assert span.attributes["first"] == 0
    assert set(span.attributes) in ({"first"}, {"first", "good", "also"})
    assert span.dropped_attributes == 2
    assert [where for where, _ in traced.sink.faults] == ["attribute"] * 2
    assert len([r for r in caplog.records if r.name == "asynctrace"]) == 1
    message(span)


@pytest.mark.parametrize("attributes", [None, 5, "text", Unreadable()])
def test_attributes_that_are_no_mapping_are_dropped_and_counted(attributes: Any) -> None:
    """The SDK raises into user code for some of them."""
    traced = Traced()
    span = traced.span(attributes={"a": 1})
    span.set_attributes(attributes)
    span.add_event("e", attributes)
    assert dict(span.attributes) == {"a": 1}
    assert {where for where, _ in traced.sink.faults} <= {"attributes"}


def test_a_cyclic_event_or_link_attribute_is_dropped_alone() -> None:
    """The same rule holds inside events and links."""
    traced = Traced()
    span = traced.span()
    span.add_event("e", {"a": 1, "bad": cyclic()})
    span.add_link(remote().get_span_context(), {"a": 1, "bad": Unprintable()})
    assert (dict(span.events[0].attributes or {}), span.events[0].dropped_attributes) == (
        {"a": 1},
        1,
    )
    assert (dict(span.links[0].attributes or {}), span.links[0].dropped_attributes) == ({"a": 1}, 1)


def test_a_mutable_value_is_kept_as_it_was() -> None:
    """As with the SDK: to change a list afterwards does not change the span."""
    value = ["a"]
    span = Traced().span()
    span.set_attribute("list", value)
    value.append("b")
    assert span.attributes["list"] == ("a",)


def test_trusted_attributes_are_taken_as_they_are() -> None:
    """No cleaning, no copy; a key that is set again keeps its place."""
    span = Traced().span(attributes={"a": 1, "b": 2})
    names = ("x", "y")
    span.update_trusted({"a": 3, "names": names})
    assert list(span.attributes.items()) == [("a", 3), ("b", 2), ("names", names)]
    assert span.attributes["names"] is names


def test_trusted_attributes_obey_limits() -> None:
    """They are looked at as soon as a limit demands it."""
    span = Traced(span_limits=SpanLimits(max_span_attributes=2)).span(attributes={"a": 1})
    span.update_trusted({"b": 2, "c": 3})
    assert (list(span.attributes), span.dropped_attributes) == (["b", "c"], 1)
    span = Traced(span_limits=SpanLimits(max_span_attribute_length=2)).span()
    span.update_trusted({"a": "123"})
    assert dict(span.attributes) == {"a": "12"}


def test_a_full_span_counts_what_it_drops(caplog: pytest.LogCaptureFixture) -> None:
    """The count goes out with the span; a line for each would fill a log."""
    span = Traced(span_limits=SpanLimits(max_span_attributes=1)).span(attributes={"a": 1})
    span.set_attribute("b", 2)
    assert dict(span.attributes) == {"b": 2}
    assert span.dropped_attributes == 1
    assert caplog.records == []


def test_attributes_are_read_only_from_outside() -> None:
    """The public view cannot be written to."""
    span = Traced().span(attributes={"a": 1})
    with pytest.raises(TypeError):
        span.attributes["a"] = 2  # type: ignore[index]


# ---- after the end


LATE: list[Callable[[Span], None]] = [
    lambda span: span.set_attribute("late", 1),
    lambda span: span.set_attributes({"late": 1}),
    lambda span: span.update_trusted({"late": 1}),
    lambda span: span.add_event("late"),
    lambda span: span.add_link(remote().get_span_context()),
    lambda span: span.update_name("late"),
    lambda span: span.set_status(StatusCode.ERROR),
    lambda span: span.record_exception(ValueError()),
    lambda span: span.end(),
    lambda span: span.start(),
]


@pytest.mark.parametrize("change", LATE)
def test_an_ended_span_refuses_changes_with_a_warning(
    change: Callable[[Span], None], caplog: pytest.LogCaptureFixture
) -> None:
    """And never with an exception."""
    traced = Traced()
    span = traced.span(attributes={"a": 1})
    span.end(end_time=7)
    before = message(span)
    change(span)
    assert message(span) == before
    assert traced.sink.spans == [span]
    [record] = caplog.records
    assert (record.name, record.levelno) == ("asynctrace", logging.WARNING)


def test_a_mistake_that_is_made_for_ever_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """For each method and name; and names without number do not flood the log either."""
    traced = Traced()
    for number in range(1000):
        span = traced.span(f"job {number // 2}")
        span.end()
        span.set_attribute("late", number)
    told = [record.args[1] for record in caplog.records if isinstance(record.args, tuple)]
    assert len(told) == len(set(told)) == 64


def test_many_threads_end_a_span_once() -> None:
    """There is no lock; the check and the change are one step of the interpreter."""
    traced = Traced()
    logging.getLogger("asynctrace").setLevel(logging.ERROR)
    try:
        for _ in range(200):
            span = traced.span()
            barrier = threading.Barrier(4)

            def end(span: Span = span, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                span.end()

            threads = [threading.Thread(target=end) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        logging.getLogger("asynctrace").setLevel(logging.NOTSET)
    assert len(traced.sink.spans) == 200


def test_threads_that_add_events_lose_none() -> None:
    """The list of events is made by the first one, whoever that is."""
    span = Traced(span_limits=SpanLimits(max_events=SpanLimits.UNSET)).span()
    barrier = threading.Barrier(4)

    def add() -> None:
        barrier.wait()
        for _ in range(100):
            span.add_event("e")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(span.events) == 400


def test_a_finalizer_may_end_a_span() -> None:
    """Also one that the garbage collector calls."""
    traced = Traced()

    class Owner:
        def __init__(self) -> None:
            self.span = traced.span("owned")
            self.itself = self

        def __del__(self) -> None:
            self.span.end()

    Owner()
    gc.collect()
    assert [span.name for span in traced.sink.spans] == ["owned"]


# ---- exceptions and status


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_cannot_be_printed_is_recorded_without_its_text() -> None:
    """Its type is known all the same."""
    traced = Traced()
    with pytest.raises(SilentError), traced.span() as span:
        raise SilentError
    recorded = dict(span.events[0].attributes or {})
    assert recorded["exception.type"] == f"{__name__}.SilentError"
    assert "exception.message" not in recorded
    assert span.status.description == "SilentError"
    assert traced.sink.faults == [("exception.message", "RuntimeError")]


def test_attributes_of_an_exception_may_be_added_and_replaced() -> None:
    """As with the SDK; what is no mapping is counted."""
    traced = Traced()
    span = traced.span()
    span.record_exception(ValueError("v"), {"exception.message": "mine", "more": 1}, timestamp=3)
    span.record_exception(ValueError("v"), 5)  # type: ignore[arg-type]
    recorded = dict(span.events[0].attributes or {})
    assert (recorded["exception.message"], recorded["more"]) == ("mine", 1)
    assert span.events[0].timestamp == 3
    assert [where for where, _ in traced.sink.faults] == ["attributes"]


def test_an_exception_whose_traceback_cannot_be_printed_is_recorded_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A source file in a broken encoding, a loader that raises."""

    def broken(*_: object) -> list[str]:
        raise RuntimeError("no")

    monkeypatch.setattr("traceback.format_exception", broken)
    span = Traced().span()
    span.record_exception(ValueError("v"))
    assert set(span.events[0].attributes or {}) == {
        "exception.type",
        "exception.message",
        "exception.escaped",
    }


def test_a_with_block_records_what_it_was_told_to() -> None:
    """`record_exception` and `set_status_on_exception` of `start_span`."""
    traced = Traced()
    span = traced.span("n", record_exception=False, set_status_on_exception=False)
    with pytest.raises(ValueError, match="v"), span:
        raise ValueError("v")
    assert (span.events, span.status.is_unset) == ((), True)
    with pytest.raises(ValueError, match="v"), traced.span("n") as span:
        raise ValueError("v")
    assert dict(span.events[0].attributes or {})["exception.escaped"] == "True"
    assert span.status.description == "ValueError: v"
    assert span.end_time is not None


def test_a_status_of_no_such_type_is_ignored() -> None:
    """As with the SDK."""
    span = Traced().span()
    span.set_status("error")  # type: ignore[arg-type]
    assert span.status.is_unset


# ---- links


def test_a_link_of_no_such_type_is_counted() -> None:
    """Never an exception in user code."""
    traced = Traced()
    span = traced.span()
    span.add_link("link")  # type: ignore[arg-type]
    span.add_link(None)  # type: ignore[arg-type]
    assert span.links == ()
    assert [where for where, _ in traced.sink.faults] == ["link"]


# ---- what tools in the wild do


def test_a_span_can_be_rewritten_by_the_sdks_field_names() -> None:
    """Scrubbing processors assign to private fields: what they leave is what is encoded."""
    state = TraceState([("k", "v")])
    span = Traced().span("old", attributes={"secret": 1})
    span.end()
    span._name = "new"
    span._attributes = {"clean": True}
    span._attributes["more"] = 1
    span._events = ()
    span._links = []
    span._status = Status(StatusCode.ERROR, "changed")
    span._kind = SpanKind.CLIENT
    span._context = remote(1, 2, state=state).get_span_context()
    span._parent = remote(1, 3).get_span_context()
    span._resource = Resource({"own": 1})
    told = message(span)
    assert told.name == "new"
    assert [pair.key for pair in told.attributes] == ["clean", "more"]
    assert (told.status.message, told.kind) == ("changed", 3)
    assert (told.trace_id[-1], told.span_id[-1], told.parent_span_id[-1]) == (1, 2, 3)
    assert (told.trace_state, told.flags) == ("k=v", 0x300)
    assert span.resource.attributes == {"own": 1}
    span._parent = None
    assert span.parent is None
    assert message(span).parent_span_id == b""


def test_the_fields_of_the_sdk_can_be_read() -> None:
    """Read-only ones among them."""
    parent = remote()
    span = Traced().span("n", set_span_in_context(parent))
    assert span._parent == parent.get_span_context()
    assert span._context is span.context
    assert span._resource is span.resource
    assert span._instrumentation_scope is span.instrumentation_scope
    assert span._start_time == span.start_time
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert span.instrumentation_info.name == "tests"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda span: span._readable_span()])
def test_a_copy_is_a_snapshot(copied: Callable[[Span], ReadableSpan]) -> None:
    """What is done to the span afterwards does not show in it, and the other way round."""
    span = Traced().span("n", set_span_in_context(remote()), attributes={"a": 1})
    span.add_event("e", {"b": 2})
    snapshot = copied(span)
    assert isinstance(snapshot, ReadableSpan)
    assert not isinstance(snapshot, SdkSpan)
    span.set_attribute("a", 2)
    span.add_event("later")
    assert (dict(snapshot.attributes or {}), len(snapshot.events)) == ({"a": 1}, 1)
    assert (snapshot.context, snapshot.parent) == (span.context, span.parent)


def test_json_is_the_sdks() -> None:
    """For console exporters and tests of users."""
    span = Traced().span("n", attributes={"a": 1})
    span.end()
    told = json.loads(span.to_json())
    assert (told["name"], told["attributes"], told["kind"]) == ("n", {"a": 1}, "SpanKind.INTERNAL")
    assert told["resource"]["attributes"] == {"service.name": "test"}
    assert "\n" not in span.to_json(indent=None)


def test_the_repr_tells_the_state() -> None:
    """Name, ids, and whether it has ended."""
    span = Traced().span("n")
    span.add_event("e", {"a": 1})
    assert repr(span).startswith('Span(name="n", context=SpanContext(')
    assert repr(span).endswith("recording)")
    assert "SpanEvent('e'" in repr(span.events[0])
    span.end()
    assert repr(span).endswith("ended)")


def test_a_span_cannot_be_made_without_a_tracer() -> None:
    """As with the SDK."""
    with pytest.raises(TypeError, match="via a tracer"):
        Span("n", remote().get_span_context())


def test_the_resource_is_the_providers_of_the_moment() -> None:
    """Spans begun before the final resource was known carry it all the same."""
    traced = Traced()
    span = traced.span()
    final = Resource({"final": True})
    traced.provider.set_resource(final)
    assert span.resource is final


def test_spans_that_follow_each_other_for_ever_are_freed() -> None:
    """A child knows its parent's ids and not the parent: no chain grows in memory."""
    traced = Traced()
    first = span = traced.span()
    for _ in range(3):
        span = traced.span("next", set_span_in_context(span))
    assert first not in gc.get_referents(span, span.__dict__)
    assert span.parent is not None

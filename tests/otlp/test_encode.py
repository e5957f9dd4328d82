"""The encoder's messages are those of OpenTelemetry's own encoder, whatever a span holds."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._internal import _encode_attributes
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

from asynctrace.otlp import wire
from asynctrace.otlp.encode import (
    SpanEncoder,
    encode_resource,
    encode_response,
    encode_scope,
    encode_status,
    join_request,
)
from asynctrace.otlp.records import PartialSuccess, RpcStatus
from asynctrace.otlp.values import any_value
from tests.otlp import samples

SHARED = SpanEncoder()


def the_span(body: bytes) -> Span:
    return samples.parsed(body).resource_spans[0].scope_spans[0].spans[0]


def attributes_of(attributes: Mapping[Any, Any]) -> Span:
    return the_span(samples.ours(samples.span(attributes=attributes), encoder=SHARED))


@given(samples.spans())
def test_a_span_is_the_official_message(span: SimpleNamespace) -> None:
    """A span of any content gives the message that the official encoder gives, byte for byte."""
    assert samples.ours(span, encoder=SHARED) == samples.official(span)


@given(samples.spans(samples.wild_attributes))
def test_what_cannot_be_encoded_is_left_out(span: SimpleNamespace) -> None:
    """Attributes that the official encoder drops are dropped here, and no others."""
    assert samples.ours(span, encoder=SHARED) == samples.official(span)


@given(st.lists(samples.attributes, max_size=5))
def test_remembered_values_are_the_right_ones(several: list[dict[str, Any]]) -> None:
    """Spans encoded after one another, from full caches, are as if each were the first."""
    spans = [samples.span(attributes=attributes) for attributes in several + several]
    if spans:
        assert samples.ours(*spans, encoder=SHARED) == samples.official(*spans)


@given(samples.attributes, st.text(max_size=5), samples.attributes, samples.texts)
def test_resource_and_scope_are_the_official_messages(
    resource: dict[str, Any], url: str, scope: dict[str, Any], version: str
) -> None:
    """Resource, scope and both schema URLs are those of the official request."""
    span = samples.span(
        resource=SimpleHashable(attributes=resource, schema_url=url),
        instrumentation_scope=SimpleHashable(
            name="a", version=version, attributes=scope, schema_url=url
        ),
    )
    assert samples.ours(span) == samples.official(span)


class SimpleHashable(SimpleNamespace):
    __hash__ = object.__hash__


def test_spans_of_the_sdk_are_the_official_message() -> None:
    """Real SDK spans with an event, a link, an exception and a status come out the same."""
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}, "https://r"))
    tracer = provider.get_tracer("scope", "1.0", "https://s", {"a": [1, 2]})
    link = Link(SpanContext(3, 4, is_remote=True), {"why": ("x", None)})
    one = tracer.start_span("job", links=[link])
    one.add_event("tick", {"n": 1})
    one.record_exception(ZeroDivisionError("division by zero"))
    one.set_status(Status(StatusCode.ERROR, "failed"))
    one.end()
    assert samples.ours(one, encoder=SHARED) == samples.official(one)


def test_requests_of_two_scopes_and_resources() -> None:
    """Groups become scope spans, and concatenated requests are one request."""
    first = samples.span(name="1")
    second = samples.span(name="2", instrumentation_scope=InstrumentationScope("other"))
    third = samples.span(name="3", resource=Resource({"a": 1}))
    encoder = SpanEncoder()
    bare, other = encode_resource({}, ""), encode_scope("other", None, None, "")
    mine = encode_scope("scope", "1", {}, "")
    groups = [
        (mine, [encoder.span(*samples.arguments(first))]),
        (encode_scope("no spans", "", {}, ""), []),
        (other, [encoder.span(*samples.arguments(second))]),
    ]
    rest = [(mine, [encoder.span(*samples.arguments(third))])]
    body = join_request(bare, groups) + join_request(encode_resource({"a": 1}, ""), rest)
    assert body == samples.official(first, second, third)
    assert join_request(bare, []) == b""


@pytest.mark.parametrize("value", [1, True, 1.0, "1", b"1", 0, False, 0.0, -0.0, "", None])
def test_equal_values_of_different_types_are_not_confused(value: object) -> None:
    """1, True and 1.0 are equal and hash alike; each keeps its type."""
    encoder = SpanEncoder()
    for other in [1, True, 1.0, "1", b"1", 0, False, 0.0, -0.0, "", None]:
        samples.ours(samples.span(attributes={"k": other}), encoder=encoder)
    span = samples.span(attributes={"k": value})
    assert samples.ours(span, encoder=encoder) == samples.official(span)


def nest(depth: int, innermost: object, mapping: bool) -> object:
    for _ in range(depth):
        innermost = {"k": innermost} if mapping else [innermost]
    return innermost


@pytest.mark.parametrize(("mapping", "deepest"), [(False, 47), (True, 31)])
def test_values_nest_as_deep_as_receivers_take_them(mapping: bool, deepest: int) -> None:
    """A value nests up to protobuf's limit; what exceeds it is left out, not the batch."""
    deep, deeper = nest(deepest, 1, mapping), nest(deepest + 1, 1, mapping)
    event = SimpleNamespace(
        name="", timestamp=0, attributes={"a": deep, "b": deeper}, dropped_attributes=0
    )
    span = the_span(samples.ours(samples.span(attributes={"a": deep, "b": deeper}, events=[event])))
    assert [pair.key for pair in span.attributes] == ["a"]
    assert [pair.key for pair in span.events[0].attributes] == ["a"]
    assert span.attributes[0] == _encode_attributes({"a": deep})[0]


def test_values_that_contain_themselves_are_left_out() -> None:
    """A cycle costs its attribute, also one that doubles at every turn."""
    cycle: list[object] = []
    cycle += [cycle, cycle]
    mapping: dict[str, object] = {}
    mapping["self"] = mapping
    span = attributes_of({"cycle": cycle, "mapping": mapping, "good": 1})
    assert [pair.key for pair in span.attributes] == ["good"]


def test_keys_that_are_no_strings_are_left_out() -> None:
    """A key of another type costs its attribute, and nothing else."""
    span = attributes_of({1: "a", None: "b", "c": "d", b"e": "f"})
    assert [pair.key for pair in span.attributes] == ["c"]


class Hostile:
    """Raises wherever it is touched."""

    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)

    def _raise(self, *_: Any) -> Any:
        raise ValueError

    __bool__ = __int__ = __str__ = __len__ = __iter__ = _raise


class Changing(Mapping[str, object]):
    """Breaks while it is read the first time, as a dict does that another thread writes to."""

    def __init__(self) -> None:
        self.reads = 0

    def __getitem__(self, key: str) -> object:
        return key

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        self.reads += 1
        yield "a"
        if self.reads == 1:
            raise RuntimeError("dictionary changed size during iteration")
        yield "b"


def test_a_mapping_that_changes_is_read_again() -> None:
    """Attributes that change while they are encoded are all there, once."""
    changing = Changing()
    assert [pair.key for pair in attributes_of(changing).attributes] == ["a", "b"]
    assert changing.reads == 2


anything = (
    st.builds(Hostile)
    | st.integers()
    | st.floats()
    | st.none()
    | st.text(st.characters(), max_size=4)
    | st.sampled_from(["\ud800", b"x", object(), [], {}, [None], {"a": Hostile()}, [Hostile()]])
)


@given(st.dictionaries(st.integers(0, 16), anything, min_size=1))
def test_no_argument_makes_it_raise(changes: dict[int, Any]) -> None:
    """Whatever stands in a span, the result is a span that protobuf can read."""
    arguments = list(samples.arguments(samples.span()))
    for position, value in changes.items():
        arguments[position] = value
    field = SHARED.span(*arguments)
    request = join_request(encode_resource({}, ""), [(encode_scope("", "", {}, ""), [field])])
    assert len(the_span(request).trace_id) == 16


@given(anything, anything, anything, anything)
def test_no_resource_or_scope_makes_it_raise(a: Any, b: Any, c: Any, d: Any) -> None:
    """Resource and scope are encoded from whatever they hold."""
    field = SHARED.span(*samples.arguments(samples.span()))
    request = join_request(encode_resource(a, b), [(encode_scope(a, b, c, d), [field])])
    assert samples.parsed(request).resource_spans[0].scope_spans[0].spans[0].name == "GET"


def test_lone_surrogates_of_names_become_question_marks() -> None:
    """A name or message without an UTF-8 form is replaced where it has none; the rest stays."""
    event = SimpleNamespace(
        name="e\udc80", timestamp=7, attributes={"a": 1}, dropped_attributes=None
    )
    broken = SimpleNamespace(name="no other field")
    link = Link(SpanContext(3, 4, is_remote=True), {"b": 2})
    span = the_span(
        samples.ours(
            samples.span(
                name="GET \ud800",
                status=Status(StatusCode.ERROR, "bad \udcff"),
                attributes={"kept": 1},
                events=[event, broken],
                links=[link, SimpleNamespace(context=None)],
            )
        )
    )
    assert (span.name, span.status.message) == ("GET ?", "bad ?")
    assert [pair.key for pair in span.attributes] == ["kept"]
    assert [(one.name, one.time_unix_nano) for one in span.events] == [("e?", 7)]
    assert [(int.from_bytes(one.span_id, "big"), one.flags) for one in span.links] == [(4, 0x300)]


@pytest.mark.parametrize(
    ("argument", "value", "field", "expected"),
    [
        (6, 99, "kind", 0),
        (6, [], "kind", 0),
        (7, -5, "start_time_unix_nano", 0),
        (8, 2**70, "end_time_unix_nano", 2**64 - 1),
        (8, 1.5e9, "end_time_unix_nano", 1_500_000_000),
        (8, math.nan, "end_time_unix_nano", 0),
        (10, 2**40, "dropped_attributes_count", 2**32 - 1),
        (12, -1, "dropped_events_count", 0),
        (1, 2**80, "span_id", b"\xff" * 8),
    ],
)
def test_numbers_out_of_range_become_the_nearest(
    argument: int, value: Any, field: str, expected: object
) -> None:
    """Times and counts beyond their fields are clamped; an unknown kind is unspecified."""
    arguments = list(samples.arguments(samples.span()))
    arguments[argument] = value
    body = SHARED.span(*arguments)
    request = join_request(encode_resource({}, ""), [(encode_scope("", "", {}, ""), [body])])
    assert getattr(the_span(request), field) == expected
    assert the_span(request).name == "GET"


def test_base_exceptions_pass_through() -> None:
    """A cancellation or an interrupt inside foreign code is not ours to catch."""

    class Interrupting(dict[str, object]):
        def items(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attributes_of(Interrupting(a=1))


# -- what is remembered


def remembered(encoder: SpanEncoder) -> dict[str, int]:
    return {key: len(values) for key, values in encoder._attributes.items()}


def encode_each(encoder: SpanEncoder, several: Iterator[dict[str, object]]) -> None:
    for attributes in several:
        encoder.span(*samples.arguments(samples.span(attributes=attributes)))


def test_a_key_of_many_values_stops_being_remembered() -> None:
    """The values of one key are bounded, and those beyond are right nevertheless."""
    encoder = SpanEncoder()
    encode_each(encoder, ({"id": number, "route": "/"} for number in range(2000)))
    assert remembered(encoder) == {"id": 256, "route": 1}
    span = samples.span(attributes={"id": 1999, "route": "/"})
    assert samples.ours(span, encoder=encoder) == samples.official(span)


def test_the_whole_cache_is_bounded() -> None:
    """Ever new keys make the cache forget and begin anew, within its budget."""
    encoder = SpanEncoder(budget=20_000)
    most = 0
    for number in range(500):
        encode_each(encoder, iter([{f"key.{number}": number}]))
        most = max(most, encoder._attributes.spent)
    assert 10_000 < most <= 20_000
    assert len(remembered(encoder)) < 100


def test_long_and_odd_values_are_not_remembered() -> None:
    """Long strings, long keys, floats, subclasses and arrays leave nothing behind."""
    encoder = SpanEncoder()
    odd = {"a": "x" * 300, "k" * 300: 1, "c": 1.5, "d": samples.Text("t"), "e": [1], "f": True}
    encode_each(encoder, iter([odd]))
    assert remembered(encoder) == {"a": 0, "c": 0, "d": 0, "e": 0, "f": 0}
    values = encoder._attributes["a"]
    with pytest.raises(TypeError):
        values[1.0]  # type: ignore[index]


def test_names_are_bounded() -> None:
    """Ever new span names do not stay; long ones never do."""
    encoder = SpanEncoder()
    for number in range(5000):
        encoder.span(*samples.arguments(samples.span(name=f"GET {number}")))
    encoder.span(*samples.arguments(samples.span(name="x" * 300)))
    assert len(encoder._names) < 4096
    assert "names=" in repr(encoder)
    assert "keys=" in repr(encoder._attributes)


def test_threads_share_an_encoder() -> None:
    """Threads that fill one cache at once all get the right bytes."""
    encoder = SpanEncoder(budget=30_000)
    spans = [samples.span(attributes={"n": n % 300, f"k{n % 70}": str(n)}) for n in range(600)]
    expected = samples.official(*spans)
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(samples.ours(*spans, encoder=encoder)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


# -- smaller parts


def test_values_are_written_by_their_content() -> None:
    """NaN and both infinities are doubles; a set has no form."""
    for value in (math.nan, math.inf, -math.inf):
        assert any_value(value) == b"\x21" + wire.pack_double(value)
    with pytest.raises(TypeError):
        any_value({1})


def test_a_full_success_is_empty() -> None:
    """The answer to a request that was taken whole has no bytes."""
    assert encode_response(PartialSuccess()) == b""
    assert encode_status(RpcStatus()) == b""

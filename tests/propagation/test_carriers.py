"""Headers in dicts, lists of pairs and multidicts."""

from __future__ import annotations

import email.message
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy

from asynctrace.propagation.carriers import (
    CARRIER_GETTER,
    CARRIER_SETTER,
    read,
    remove,
    texts,
    write,
)

PAIRS = [("Host", "x"), ("TraceParent", "1"), ("traceparent", "2")]


def as_bytes(pairs: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(key.encode(), value.encode()) for key, value in pairs]


def message(pairs: list[tuple[str, str]]) -> email.message.Message:
    made = email.message.Message()
    for key, value in pairs:
        made[key] = value
    return made


READABLE: list[Callable[[Any], Any]] = [
    list,
    tuple,
    dict,
    iter,
    as_bytes,
    lambda pairs: dict(as_bytes(pairs)),
    lambda pairs: MappingProxyType(dict(pairs)),
    CIMultiDict,
    MultiDict,
    lambda pairs: CIMultiDictProxy(CIMultiDict(pairs)),
    lambda pairs: MultiDictProxy(MultiDict(pairs)),
    httpx.Headers,
    message,
]


@pytest.mark.parametrize("form", READABLE)
def test_read(form: Callable[[Any], Any]) -> None:
    """Every value is found, in order, whatever the case and wherever it is kept."""
    assert read(form(PAIRS), "traceparent") == ["1", "2"]


@pytest.mark.parametrize("form", READABLE)
def test_read_absent(form: Callable[[Any], Any]) -> None:
    """A header that is not there has no values; a longer or shorter name is another one."""
    others = [("x-traceparent", "1"), ("traceparents", "1"), ("trace-paren", "1")]
    assert read(form(others), "traceparent") == []
    assert read(form([]), "traceparent") == []


def test_read_lists_of_values() -> None:
    """OpenTelemetry's own carriers may hold a list of values per name."""
    assert read({"baggage": ["a=1", b"b=2"]}, "baggage") == ["a=1", "b=2"]


@pytest.mark.parametrize("value", [1, 1.5, object(), {}, {"a": 1}, ..., bytearray(b"x")])
def test_values_that_are_no_text(value: object) -> None:
    """They count as a header that is there and not valid."""
    assert texts(value) == [""]
    assert texts([value, "a"]) == ["", "a"]


def test_no_value_and_no_carrier() -> None:
    """None is nothing: clients have it in place of headers, getters in place of values."""
    assert texts(None) == []
    assert read(None, "traceparent") == []  # type: ignore[arg-type]


WRITABLE: list[Callable[[Any], Any]] = [list, dict, CIMultiDict, MultiDict, httpx.Headers, message]


@pytest.mark.parametrize("form", WRITABLE)
def test_write(form: Callable[[Any], Any]) -> None:
    """A new header takes the place of every old one of its name; the others stay."""
    carrier = form(PAIRS)
    write(carrier, "traceparent", "3")
    assert read(carrier, "traceparent") == ["3"]
    assert read(carrier, "host") == ["x"]
    write(carrier, "tracestate", "4")
    assert read(carrier, "tracestate") == ["4"]


@pytest.mark.parametrize("form", WRITABLE)
def test_remove(form: Callable[[Any], Any]) -> None:
    """Every header of the name goes; removing what is absent changes nothing."""
    carrier = form(PAIRS)
    remove(carrier, "tracestate")
    assert read(carrier, "traceparent") == ["1", "2"]
    remove(carrier, "traceparent")
    assert read(carrier, "traceparent") == []
    assert read(carrier, "host") == ["x"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [("n", b"v")]),
        ([("a", "b")], [("a", "b"), ("n", "v")]),
        ([("a", b"b")], [("a", b"b"), ("n", b"v")]),
        ([(b"a", b"b")], [(b"a", b"b"), (b"n", b"v")]),
        ([["a", "b"]], [["a", "b"], ["n", "v"]]),
        ([("N", "x"), ("a", "b"), ("n", "y")], [("n", "v"), ("a", "b")]),
        ([(b"a", b"b"), (b"N", b"x")], [(b"a", b"b"), (b"n", b"v")]),
    ],
)
def test_lists(before: list[Any], after: list[Any]) -> None:
    """A list gets a pair of its own kind, in place of an old one; an empty list one for Kafka."""
    write(before, "n", "v")
    assert before == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"n": "v"}),
        ({"a": "b", "N": "x"}, {"a": "b", "n": "v"}),
        ({"a": b"b"}, {"a": b"b", "n": b"v"}),
        ({b"a": b"b", b"N": b"x"}, {b"a": b"b", b"n": b"v"}),
    ],
)
def test_dicts(before: dict[Any, Any], after: dict[Any, Any]) -> None:
    """A dict gets names and values of the kind it has already."""
    write(before, "n", "v")
    assert before == after


@pytest.mark.parametrize(
    "carrier", [(), "text", 1, None, MappingProxyType({}), CIMultiDictProxy(CIMultiDict())]
)
def test_not_writable(carrier: Any) -> None:
    """What cannot be changed is refused with the remedy, and left alone where nothing is to do."""
    with pytest.raises(TypeError, match="use a dict or a list"):
        write(carrier, "n", "v")
    remove(carrier, "n")


@given(
    st.lists(st.tuples(st.sampled_from(["a", "A", "b", "traceparent"]), st.text())),
    st.sampled_from([list, CIMultiDict, MultiDict, dict]),
    st.text(st.characters(codec="ascii")),
)
def test_write_then_read(
    pairs: list[tuple[str, str]], form: Callable[[Any], Any], value: str
) -> None:
    """What is written is the only thing read, and the other headers are as before."""
    carrier = form(pairs)
    before = {name: read(carrier, name) for name in ("b", "traceparent")}
    write(carrier, "a", value)
    assert read(carrier, "a") == [value]
    assert {name: read(carrier, name) for name in ("b", "traceparent")} == before


def test_for_opentelemetry() -> None:
    """Its propagators ask with names of any case, and for all names."""
    carrier = httpx.Headers({"X-B3-TraceId": "1"})
    assert CARRIER_GETTER.get(carrier, "X-B3-TRACEID") == ["1"]
    assert CARRIER_GETTER.get(carrier, "b3") is None
    CARRIER_SETTER.set(carrier, "X-B3-TraceId", "2")
    assert carrier.multi_items() == [("x-b3-traceid", "2")]
    assert CARRIER_GETTER.keys([(b"A", b"1"), ("b", "2")]) == ["A", "b"]

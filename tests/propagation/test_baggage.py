"""W3C Baggage: header to entries and back."""

from __future__ import annotations

import copy
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrace.propagation import BaggageValue, format_baggage, parse_baggage

_token = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
names = st.text(_token, min_size=1, max_size=20)
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(names, values, max_size=15))
def test_read_back(entries: dict[str, str]) -> None:
    """Any text is a value, and comes back as it was."""
    header = format_baggage(entries)
    assert header.isascii()
    assert parse_baggage([header]) == entries


@given(st.lists(st.text()))
def test_any_text(headers: list[str]) -> None:
    """Nothing raises, and what is accepted comes back after another hop."""
    entries = parse_baggage(headers)
    again = parse_baggage([format_baggage(entries)])
    # Percent-coding may lengthen what came in, and then not all of it fits any more.
    assert again.items() <= entries.items()


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=80))
def test_any_entries(entries: dict[str, object]) -> None:
    """Whatever a program puts into its baggage, a legal header is sent."""
    header = format_baggage(entries)
    assert len(header) <= 8192
    assert len(parse_baggage([header])) == (header.count(",") + 1 if header else 0) <= 64


@pytest.mark.parametrize(
    ("header", "entries"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1,b=2", {"a": "1", "b": "2"}),
        (" a = 1 ,\t b\t=\t2\t", {"a": "1", "b": "2"}),
        (",a=1,, ,b=2,", {"a": "1", "b": "2"}),
        ("a=", {"a": ""}),
        ("a=b=c==", {"a": "b=c=="}),
        ("a=1,a=2", {"a": "2"}),
        ("a=1+1", {"a": "1+1"}),
        ("a=%20x%20", {"a": " x "}),
        ("a=%C3%A4%e2%82%ac", {"a": "ä€"}),
        ("a=%2C%3B%25", {"a": ",;%"}),
        ("a=%FF", {"a": "\ufffd"}),
        ("a=%zz%", {"a": "%zz%"}),
        ("a%20b=1", {"a%20b": "1"}),
        ("a;b=1,c=2", {"c": "2"}),
        ("a,b=2", {"b": "2"}),
        ("=1,b=2", {"b": "2"}),
        ("a b=1,c=2", {"c": "2"}),
        ("ä=1,c=2", {"c": "2"}),
        ("a=ä,c=2", {"c": "2"}),
        ('a="1",c=2', {"c": "2"}),
        ("a=1 2,c=2", {"c": "2"}),
        ("a=\\,c=2", {"c": "2"}),
        ("a=1;=,c=2", {"c": "2"}),
        ("a=1;,c=2", {"c": "2"}),
        ("a(=1,c=2", {"c": "2"}),
        ("a=1;p;q=2", {"a": "1"}),
    ],
)
def test_members(header: str, entries: dict[str, str]) -> None:
    """A member outside the grammar is skipped, the others are kept."""
    assert parse_baggage([header]) == entries


def test_several_headers() -> None:
    """They are one list."""
    assert parse_baggage(["a=1", "", "b=2,a=3"]) == {"a": "3", "b": "2"}


def test_unsendable_names() -> None:
    """A name that is no token cannot be sent; neither can it be sent in disguise."""
    assert format_baggage({"a b": "1", "": "2", "ä": "3", "a,b": "4", "ok": "5"}) == "ok=5"


def test_values_of_any_type() -> None:
    """OpenTelemetry allows any object as a value; its text is sent."""
    assert format_baggage({"a": 1, "b": True, "c": "\ud800"}) == "a=1,b=True,c=?"


def test_64_members() -> None:
    """The first 64 are kept, coming in and going out; members that are not valid do not count."""
    entries = {f"k{number}": "v" for number in range(65)}
    kept = dict(list(entries.items())[:64])
    assert parse_baggage([format_baggage(entries)]) == kept
    header = ",".join(f"{name}=v" for name in entries)
    assert parse_baggage([header]) == kept
    assert parse_baggage(["(=1", header]) == kept


@pytest.mark.parametrize(("size", "fits"), [(8192, True), (8193, False)])
def test_8192_bytes(size: int, fits: bool) -> None:
    """A header may have 8192 bytes, in one member or in several, and never a part of one."""
    one = {"a": "x" * (size - 2)}
    assert format_baggage(one) == (f"a={'x' * (size - 2)}" if fits else "")
    assert parse_baggage([f"a={'x' * (size - 2)}"]) == (one if fits else {})
    two = {"a": "x" * 4000, "b": "y" * (size - 4000 - 5)}
    assert (len(format_baggage(two)) == size) is fits
    assert len(parse_baggage([f"a={two['a']}", f"b={two['b']}"])) == (2 if fits else 1)


def test_too_long_member() -> None:
    """A member without room is passed over; smaller ones after it still fit."""
    assert format_baggage({"a": "1", "big": "ä" * 3000, "b": "2"}) == "a=1,b=2"


def test_properties() -> None:
    """Properties are no part of the value, and travel on with it."""
    entries = parse_baggage(["a=1 ; ttl = 30 ;flag, b=2"])
    assert entries == {"a": "1", "b": "2"}
    assert format_baggage(entries) == "a=1;ttl=30;flag,b=2"
    value = entries["a"]
    assert isinstance(value, BaggageValue)
    for twin in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == "1"
        assert format_baggage({"a": twin}) == "a=1;ttl=30;flag"


def test_illegal_properties() -> None:
    """Properties made by hand are sent only if they are legal."""
    assert format_baggage({"a": BaggageValue("1", ";p,b=2")}) == "a=1"


def test_hostile_header() -> None:
    """A header made to keep a parser busy is done with at once (the test would time out)."""
    for text in ("a=1" + " ;a" * 100_000 + ",", "a" * 300_000, "a=" + ";=" * 100_000):
        parse_baggage([text])
    parse_baggage(["a=1;" + " " * 30_000 + "b" + " " * 30_000 + "!("])

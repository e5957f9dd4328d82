"""The TraceState that keeps to Level 2; its grammar is in w3c_cases.py."""

from __future__ import annotations

import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import TraceState

from asynctrace.propagation import RemoteTraceState, parse_tracestate

_key_characters = string.ascii_lowercase + string.digits + "_-*/"
_value_characters = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in ",=")

keys = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_lowercase + string.digits),
    st.text(_key_characters, max_size=20),
)
values = st.text(_value_characters, min_size=1, max_size=30)
states = st.dictionaries(keys, values, min_size=1, max_size=32)


def state(**members: str) -> RemoteTraceState:
    return RemoteTraceState(members)


@given(states)
def test_read_back(members: dict[str, str]) -> None:
    """Every legal list is read back as it was written, in order."""
    parsed = parse_tracestate([RemoteTraceState(members).to_header()])
    assert parsed is not None
    assert list(parsed.items()) == list(members.items())


@given(states, st.data())
def test_split_over_headers(members: dict[str, str], data: st.DataObject) -> None:
    """It does not matter over how many headers the list is spread."""
    entries = [f"{key}={value}" for key, value in members.items()]
    cut = data.draw(st.integers(0, len(entries)))
    assert parse_tracestate([",".join(entries[:cut]), ",".join(entries[cut:])]) == members


@given(st.lists(st.text()))
def test_any_text(headers: list[str]) -> None:
    """Nothing raises, and what is accepted is written again as something that is accepted."""
    parsed = parse_tracestate(headers)
    if parsed is not None:
        assert parse_tracestate([parsed.to_header()]) == parsed


@given(states)
def test_agrees_with_the_api(members: dict[str, str]) -> None:
    """Where the API's own class accepts a list, both hold the same and write the same header."""
    theirs = TraceState(
        [(key, value) for key, value in members.items() if key[0] not in string.digits]
    )
    ours = RemoteTraceState(dict(theirs))
    assert ours == theirs
    assert ours.to_header() == theirs.to_header()
    assert TraceState.from_header([ours.to_header()]) == RemoteTraceState.from_header(
        [ours.to_header()]
    )


def test_mapping() -> None:
    """It reads like the mapping that the API's class is."""
    pair = state(a="1", b="2")
    assert isinstance(pair, TraceState)
    assert pair["a"] == "1"
    assert pair.get("c") is None
    assert "b" in pair
    assert len(pair) == 2
    assert list(pair) == list(pair.keys()) == ["a", "b"]
    assert list(pair.values()) == ["1", "2"]
    assert repr(pair) == "RemoteTraceState('a=1,b=2')"
    assert pickle.loads(pickle.dumps(pair)) == pair
    assert not RemoteTraceState.get_default()


def test_change() -> None:
    """A changed or new entry comes first; the original is not touched."""
    pair = state(a="1", b="2")
    assert pair.add("0c", "3").to_header() == "0c=3,a=1,b=2"
    assert pair.update("b", "9").to_header() == "b=9,a=1"
    assert pair.update("c", "9").to_header() == "c=9,a=1,b=2"
    assert pair.delete("a").to_header() == "b=2"
    assert pair.to_header() == "a=1,b=2"


@pytest.mark.parametrize(("key", "value"), [("A", "1"), ("c", ""), ("c", "a,b"), ("", "1")])
def test_illegal_change(key: str, value: str) -> None:
    """A change outside the grammar gives back the same object, as in the API."""
    pair = state(a="1", b="2")
    assert pair.add(key, value) is pair
    assert pair.update(key, value) is pair


def test_changes_that_do_not_apply() -> None:
    """Adding what is there and deleting what is not give back the same object."""
    pair = state(a="1", b="2")
    assert pair.add("a", "9") is pair
    assert pair.delete("c") is pair


def test_full() -> None:
    """With 32 entries one can be changed, none can be added."""
    full = RemoteTraceState({f"k{number}": "1" for number in range(32)})
    assert full.add("z", "1") is full
    assert full.update("z", "1") is full
    assert full.update("k7", "2")["k7"] == "2"


def test_from_header() -> None:
    """A list that has to be discarded gives an empty state."""
    assert RemoteTraceState.from_header(["a=1", "b=2"]) == {"a": "1", "b": "2"}
    assert len(RemoteTraceState.from_header(["a=1,a=1"])) == 0

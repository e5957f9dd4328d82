"""Lists in variables: whatever is written there is read back, whatever is malformed is refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.util.re import parse_env_headers

from asynctrace.config import endpoint, text

_TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789!#$&'*+-.^_`|~", min_size=1)
_TEXT = st.text(st.characters(exclude_categories=["Cs"])).map(str.strip)
_PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(str.strip)
_BLANK = st.sampled_from(["", " ", "\t", "  "])


@given(st.dictionaries(_TEXT.filter(bool), _TEXT, min_size=1), _BLANK)
def test_attributes_are_read_back(attributes: dict[str, str], blank: str) -> None:
    """Keys and values that were percent-encoded come back, with blanks around them or not."""
    pairs = (
        f"{quote(k, safe='')}{blank}={blank}{quote(v, safe='')}" for k, v in attributes.items()
    )
    assert text.attributes(f"{blank},{blank}".join(pairs)) == attributes


@given(st.dictionaries(_TOKEN, _PRINTABLE, min_size=1))
def test_headers_are_read_as_by_the_official_exporter(headers: dict[str, str]) -> None:
    """An encoded list of headers means the same to us and to opentelemetry-python."""
    written = ",".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in headers.items())
    assert text.headers(written) == headers == parse_env_headers(written)


@given(st.text())
def test_any_list_of_headers_is_read_or_refused(anything: str) -> None:
    """No text makes the reader fail otherwise, or lets a header through that breaks a request."""
    try:
        headers = text.headers(anything)
    except ValueError:
        return
    for name, value in headers.items():
        assert name == name.lower()
        assert not {"\r", "\n", "\0"} & set(name + value)


@given(st.text())
def test_any_list_of_attributes_is_read_or_refused(anything: str) -> None:
    """A malformed part refuses the whole list: nothing is taken by half."""
    try:
        attributes = text.attributes(anything)
    except ValueError:
        return
    assert len(attributes) <= anything.count(",") + 1
    assert all(attributes)


@pytest.mark.parametrize("written", ["a=1;b=2", "a=x y", 'a="b"', "a=b=c=="])
def test_header_values_may_be_written_plainly(written: str) -> None:
    """What users paste without encoding it, such as ``Bearer ...``, is taken as it is."""
    assert text.headers(written) == {"a": written[2:]}


def test_the_last_of_a_repeated_key_holds() -> None:
    """A list that was appended to means what was appended."""
    assert text.headers("a=1,A=2") == {"a": "2"}


@given(st.integers(0, text.LARGEST))
def test_durations_are_milliseconds(milliseconds: int) -> None:
    """A variable says milliseconds, a setting is in seconds."""
    assert text.duration(str(milliseconds)) == milliseconds / 1000


@given(st.text())
def test_urls_are_masked_whatever_they_are(url: str) -> None:
    """Masking never fails and leaves neither credentials nor a query."""
    shown = endpoint.masked(f"http://user:pass@{url}")
    assert isinstance(shown, str)
    assert shown.startswith("http://***@")


def test_a_header_value_that_no_request_can_carry_is_refused() -> None:
    """Half a character, as undecodable bytes of the environment become; it would fail later."""
    with pytest.raises(ValueError, match="half a character"):
        text.header_value("to\udcffken")
    assert text.header_value("grün 山") == "grün 山"

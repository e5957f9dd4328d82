"""W3C Baggage: the ``baggage`` header to names and values, and back.

Source: W3C "Propagation format for distributed context: Baggage". A bad list member is left out and
the others are kept, unlike in ``tracestate``. What OpenTelemetry's own propagator does differently
and the specification does not allow: "+" is a plus and not a space, names are never percent-coded,
several headers are one list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Self
from urllib.parse import quote, unquote

__all__ = ["BaggageValue", "format_baggage", "parse_baggage", "sendable_baggage"]

# What every platform has to propagate. More may be dropped anywhere on the way, so it is dropped
# here, the same way every time: the first that fit are kept, and never a part of one.
_MAX_MEMBERS = 64
_MAX_BYTES = 8192

_OWS = r"[ \t]*"
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
_PROPERTY = f"{_TOKEN}(?:{_OWS}={_OWS}{_VALUE})?"

_match_token = re.compile(_TOKEN).fullmatch
_match_member = re.compile(
    f"({_TOKEN}){_OWS}={_OWS}({_VALUE})((?:{_OWS};{_OWS}{_PROPERTY})*)"
).fullmatch
_match_properties = re.compile(f"(?:;{_PROPERTY})*").fullmatch

# The characters of a value that need no percent-coding. "%" is one of them by the grammar, but has
# to be coded to come back as itself.
_PLAIN = "!#$&'()*+/:<=>?@[]^`{|}"


class BaggageValue(str):
    """A baggage value that arrived with properties (``name=value;ttl=30``).

    To everybody it is the value. OpenTelemetry's baggage has no place for the properties, which
    later services may need; kept here, they leave again with the value.
    """

    __slots__ = ("properties",)

    properties: str

    def __new__(cls, value: str, properties: str) -> Self:
        self = super().__new__(cls, value)
        self.properties = properties
        return self

    def __reduce__(self) -> tuple[type[BaggageValue], tuple[str, str]]:
        return type(self), (str(self), self.properties)


def parse_baggage(headers: Iterable[str]) -> dict[str, str]:
    """The names and values in all ``baggage`` headers of one message.

    Members outside the grammar are skipped; of a name that occurs twice the last value counts; the
    limits of the specification are applied.
    """
    entries: dict[str, str] = {}
    budget = _Budget()
    for member in _members(headers):
        match = _match_member(member)
        if match is None or not budget.takes(member):
            continue
        name, text, properties = match.groups()
        value = unquote(text, errors="replace") if "%" in text else text
        entries[name] = BaggageValue(value, _compact(properties)) if properties else value
    return entries


def format_baggage(entries: Mapping[str, object]) -> str:
    """The ``baggage`` header for these entries; empty when there is nothing to send.

    Names that are no token cannot be sent and are left out. Values are percent-coded UTF-8.
    """
    return ",".join(sendable_baggage(entries).values())


def sendable_baggage(entries: Mapping[str, object]) -> dict[str, str]:
    """Each name that the ``baggage`` header for these entries has room for, with its member."""
    budget = _Budget()
    members = (
        (name, f"{name}={quote(str(value), safe=_PLAIN, errors='replace')}{_properties(value)}")
        for name, value in entries.items()
        if _match_token(name)
    )
    return {name: member for name, member in members if budget.takes(member)}


def _members(headers: Iterable[str]) -> Iterator[str]:
    for header in headers:
        for text in header.split(","):
            member = text.strip(" \t")
            if member:
                yield member


class _Budget:
    """The room in one header of legal size. A member that does not fit is passed over."""

    __slots__ = ("_bytes", "_members")

    def __init__(self) -> None:
        self._members = _MAX_MEMBERS
        self._bytes = _MAX_BYTES + 1  # every member is counted with a comma, also the first

    def takes(self, member: str) -> bool:
        size = len(member) + 1  # a member inside the grammar is ASCII
        if not self._members or size > self._bytes:
            return False
        self._members -= 1
        self._bytes -= size
        return True


def _compact(properties: str) -> str:
    return re.sub(r"[ \t]+", "", properties)


def _properties(value: object) -> str:
    if isinstance(value, BaggageValue) and _match_properties(value.properties):
        return value.properties
    return ""

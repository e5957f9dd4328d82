"""The ``tracestate`` header: vendors' own entries beside the ids of ``traceparent``.

Source: W3C Trace Context Level 2, section "Tracestate Header". One damaged entry makes the whole
list worthless, because its order carries meaning: the list is then discarded, never repaired.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView

from opentelemetry.trace import TraceState

__all__ = ["RemoteTraceState", "parse_tracestate"]

_MAX_MEMBERS = 32

# Longer than any legal list of 32 members, with room for white space. What exceeds it is discarded
# unread, so that a hostile header cannot buy our time.
_MAX_LENGTH = 32 * 1024

# Level 2 lets a key begin with a digit and lists "@" among the key characters. The validation suite
# still judges "@" by Level 1: once at most, up to 241 characters before and 14 after it. A key has
# to satisfy both.
_KEY = r"[a-z0-9][a-z0-9_*/-]{0,240}@[a-z0-9_*/-]{1,14}|[a-z0-9][a-z0-9_*/-]{0,255}"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"

_match_key = re.compile(_KEY).fullmatch
_match_value = re.compile(_VALUE).fullmatch
_match_member = re.compile(f"({_KEY})=({_VALUE})").fullmatch


def parse_tracestate(headers: Iterable[str]) -> TraceState | None:
    """The entries of all ``tracestate`` headers of one message, in order.

    None when there are none, and also when the list has to be discarded: an entry outside the
    grammar, a key that occurs twice, more than 32 entries.
    """
    combined = ",".join(headers)
    if len(combined) > _MAX_LENGTH:
        return None
    members: dict[str, str] = {}
    for text in combined.split(","):
        member = text.strip(" \t")
        if not member:  # empty members are legal: some senders join headers blindly
            continue
        match = _match_member(member)
        if match is None:
            return None
        key, value = match.groups()
        if key in members or len(members) == _MAX_MEMBERS:
            return None
        members[key] = value
    return RemoteTraceState(members) if members else None


class RemoteTraceState(TraceState):
    """A ``TraceState`` by the grammar of Level 2.

    The API's own class drops entries whose key begins with a digit, which Level 2 allows, and logs
    a warning for each. This one keeps its entries itself and overrides every public method, so it
    relies on nothing inside its base and stays what it is through ``add``, ``update``, ``delete``.
    Like its base it is immutable; a change that would break the rules returns the same object.
    """

    def __init__(
        self, entries: Mapping[str, str] | Sequence[tuple[str, str]] | None = None
    ) -> None:
        super().__init__()
        self._members = dict(entries or ())

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def __getitem__(self, key: str) -> str:
        return self._members[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_header()!r})"

    def keys(self) -> KeysView[str]:
        return self._members.keys()

    def values(self) -> ValuesView[str]:
        return self._members.values()

    def items(self) -> ItemsView[str, str]:
        return self._members.items()

    def add(self, key: str, value: str) -> TraceState:
        """A copy with a new first entry; the same object if the key exists or is not legal."""
        return self if key in self._members else self.update(key, value)

    def update(self, key: str, value: str) -> TraceState:
        """A copy with this entry first, as the specification asks of whoever changes one."""
        rest = {name: text for name, text in self._members.items() if name != key}
        if len(rest) == _MAX_MEMBERS or not (_match_key(key) and _match_value(value)):
            return self
        return RemoteTraceState({key: value, **rest})

    def delete(self, key: str) -> TraceState:
        """A copy without this entry; the same object if there is none."""
        if key not in self._members:
            return self
        return RemoteTraceState({name: text for name, text in self._members.items() if name != key})

    def to_header(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self._members.items())

    @classmethod
    def from_header(cls, header_list: list[str]) -> TraceState:
        return parse_tracestate(header_list) or cls()

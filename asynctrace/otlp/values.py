"""Attributes to bytes: most of a span, and the same few keys and values again and again.

So whole key-value fields are remembered. What bounds the memory:

- a key that had too many different values is encoded afresh from then on;
- long keys and values are never remembered;
- when everything remembered exceeds its budget, it is forgotten and begun anew.

What keeps it right: only exact ``str`` and ``int`` share a table, because ``1 == True == 1.0``; and
every table is changed by single dict operations, so that any thread and any finalizer may encode
without a lock. Threads that race do the same work twice and overshoot a bound by an entry.

A value that OTLP cannot express (an integer beyond 64 bits, a lone surrogate, a set) costs its
attribute and nothing else, which is also what OpenTelemetry's own encoder does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from asynctrace.otlp.wire import (
    LENGTH,
    MAX_DEPTH,
    delimited,
    pack_double,
    signed_varint,
    string,
    tag,
    varint,
)

VALUES_PER_KEY: Final = 256
LONGEST_REMEMBERED: Final = 256  # characters, of a key or of a string
BUDGET: Final = 4 * 1024 * 1024  # bytes
_ENTRY_OVERHEAD: Final = 200  # bytes: the dict's slot, the headers of the value and of its field

# An attribute's value lies under up to six messages (of an event: request, resource spans, scope
# spans, span, event, key-value). A receiver counts those too, before it refuses the request.
_DEEPEST_VALUE: Final = MAX_DEPTH - 6

# AnyValue, a oneof: even a zero or an empty string is written, it says which of the types it is.
_STRING: Final = tag(1, LENGTH)
_TRUE: Final = b"\x10\x01"
_FALSE: Final = b"\x10\x00"
_INT: Final = b"\x18"
_DOUBLE: Final = b"\x21"
_NONE: Final = b""

_KEY: Final = 1
_VALUE: Final = tag(2, LENGTH)


class KeyValues(dict[str | int, bytes]):
    """One key's fields by value; looking up a value that is not there encodes it."""

    __slots__ = ("_double", "_key", "_owner", "_tag", "false", "none", "true")

    def __init__(self, owner: KeyValueFields, key: str) -> None:
        super().__init__()
        self._owner = owner
        self._tag = owner.tag
        self._key = string(_KEY, key) + _VALUE
        self.true = self.field(_TRUE)
        self.false = self.field(_FALSE)
        self.none = self.field(_NONE)
        self._double = self.field(_DOUBLE + pack_double(0.0))[: -len(pack_double(0.0))]

    def __missing__(self, value: str | int) -> bytes:
        short = True
        if type(value) is str:
            content = value.encode()
            any_value = _STRING + varint(len(content)) + content
            short = len(value) <= LONGEST_REMEMBERED
        elif type(value) is int:
            any_value = _INT + signed_varint(value)
        else:
            raise TypeError(f"{type(value)} would be confused with what it equals")
        field = self.field(any_value)
        if short and len(self) < VALUES_PER_KEY:
            self[value] = field
            self._owner.spend(len(field))
        return field

    def field(self, any_value: bytes) -> bytes:
        """Write the key with an encoded value."""
        size = len(any_value)
        key_value = self._key + varint(size) + any_value
        return self._tag + varint(len(key_value)) + key_value

    def double(self, value: float) -> bytes:
        """Write the key with a float; floats hardly ever come twice."""
        return self._double + pack_double(value)


class KeyValueFields(dict[str, KeyValues]):
    """Everything remembered for one field number; looking up an unknown key adds it.

    `fields["http.route"]["/"]` is the whole field: tag, length, key and value.
    """

    __slots__ = ("_budget", "spent", "tag")

    def __init__(self, number: int, *, budget: int = BUDGET) -> None:
        super().__init__()
        self.tag = tag(number, LENGTH)
        self.spent = 0
        self._budget = budget

    def __repr__(self) -> str:
        return f"<KeyValueFields keys={len(self)} spent={self.spent} of {self._budget} bytes>"

    def __missing__(self, key: str) -> KeyValues:
        if not isinstance(key, str):
            raise TypeError("the key of an attribute is a string")
        values = KeyValues(self, key)
        if type(key) is str and len(key) <= LONGEST_REMEMBERED:
            self[key] = values
            self.spend(4 * len(values.none))
        return values

    def spend(self, size: int) -> None:
        """Count an entry against the budget; forget everything when that is exceeded."""
        self.spent += size + _ENTRY_OVERHEAD
        if self.spent > self._budget:
            self.clear()
            self.spent = 0


def append_attributes(
    append: Callable[[bytes], object], fields: KeyValueFields, attributes: Mapping[str, object]
) -> None:
    """Append the field of every attribute that can be encoded; leave out the others.

    Raises only what iterating over `attributes` raises.
    """
    for key, value in attributes.items():
        try:
            kind = type(value)
            values = fields[key]
            if kind is str or kind is int:
                append(values[value])  # type: ignore[index]  # mypy does not narrow by identity
            elif kind is bool:
                append(values.true if value else values.false)
            elif kind is float:
                append(values.double(value))  # type: ignore[arg-type]
            elif value is None:
                append(values.none)
            else:
                append(values.field(any_value(value)))
        except Exception:
            # User data of whatever kind: see the end of the module's text.
            continue


def any_value(value: object, depth: int = 0) -> bytes:
    """Write the content of an AnyValue.

    Raises:
        Exception: whatever a value that cannot be encoded provokes; also a value that contains
            itself, or nests deeper than a receiver would take.
    """
    # Bool before int and str before Sequence, since each is one of the latter, too. Subclasses are
    # taken for what they contain, whatever methods they override.
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, str):
        content = str.encode(value)
        return _STRING + varint(len(content)) + content
    if isinstance(value, int):
        return _INT + signed_varint(int.__index__(value))
    if isinstance(value, float):
        return _DOUBLE + pack_double(value)
    if isinstance(value, bytes):
        return delimited(7, b"".join((value,)))
    if isinstance(value, Sequence):
        depth = _one_deeper(depth, 2)
        items = [delimited(1, any_value(item, depth)) for item in value]
        return delimited(5, b"".join(items))
    if isinstance(value, Mapping):
        depth = _one_deeper(depth, 3)
        pairs = [_key_value(str(key), item, depth) for key, item in value.items()]
        return delimited(6, b"".join(pairs))
    raise TypeError(f"{type(value)} is not a type of attributes")


def _key_value(key: str, value: object, depth: int) -> bytes:
    written = string(_KEY, key) + delimited(2, any_value(value, depth))
    return delimited(1, written)


def _one_deeper(depth: int, messages: int) -> int:
    depth += messages
    if depth > _DEEPEST_VALUE:
        raise RecursionError("the value nests too deeply, or contains itself")
    return depth

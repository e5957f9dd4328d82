"""Reading JSON objects by protobuf's JSON mapping, as OTLP/JSON varies it.

What a field may look like on the wire is wider than what we write: 64-bit integers are strings or
numbers, floats may be words, ``null`` is as good as absent, unknown names are passed over. OTLP's
own variations: identifiers are hex and not base64, and enumerations are numbers (names are
understood here all the same). See https://protobuf.dev/programming-guides/json/ and
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Final, NoReturn

from asynctrace.otlp.wire import INT64_MAX, INT64_MIN, UINT32_MAX, UINT64_MAX, DecodeError

_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DURATION: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?s")
_HEX: Final = re.compile(r"([0-9a-fA-F]{2})*")
_WORDS: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}


class JSONObject:
    """One JSON object; every reader answers a field's default when the field is not there.

    Every reader raises `DecodeError` when the field is there and of another type.
    """

    __slots__ = ("_members",)

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise DecodeError(f"an object was expected, not {_shown(value)}")
        self._members: dict[str, object] = {
            name: member for name, member in value.items() if member is not None
        }

    def one_of(self, names: Iterable[str]) -> str | None:
        """Tell which member of a oneof is there; more than one is an error."""
        there = [name for name in names if name in self._members]
        if len(there) > 1:
            raise DecodeError(f"{there[0]} and {there[1]} exclude each other")
        return there[0] if there else None

    def child(self, name: str) -> JSONObject:
        return JSONObject(self._members.get(name, {}))

    def children(self, name: str) -> list[JSONObject]:
        values = self._members.get(name, [])
        if not isinstance(values, list):
            self._refuse(name, "an array")
        return [JSONObject(value) for value in values]

    def text(self, name: str) -> str:
        value = self._members.get(name, "")
        if not isinstance(value, str):
            self._refuse(name, "a string")
        try:
            value.encode()
        except UnicodeEncodeError:
            self._refuse(name, "a string of whole characters")
        return value

    def hex(self, name: str) -> str:
        value = self.text(name)
        if not _HEX.fullmatch(value):
            self._refuse(name, "hexadecimal")
        return value.lower()

    def content(self, name: str) -> bytes:
        """Read base64 of either alphabet, padded or not."""
        value = self.text(name).rstrip("=").replace("-", "+").replace("_", "/")
        try:
            return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
        except ValueError:
            self._refuse(name, "base64")

    def flag(self, name: str) -> bool:
        value = self._members.get(name, False)
        if not isinstance(value, bool):
            self._refuse(name, "true or false")
        return value

    def int64(self, name: str) -> int:
        return self._integer(name, INT64_MIN, INT64_MAX)

    def uint64(self, name: str) -> int:
        return self._integer(name, 0, UINT64_MAX)

    def uint32(self, name: str) -> int:
        return self._integer(name, 0, UINT32_MAX)

    def int32(self, name: str) -> int:
        return self._integer(name, -(2**31), 2**31 - 1)

    def enum(self, name: str, prefix: str, names: tuple[str, ...]) -> int:
        """Read an enumeration's number, or `prefix` and one of its `names`."""
        value = self._members.get(name, 0)
        if isinstance(value, str) and value.startswith(prefix):
            value = value.removeprefix(prefix)
            return names.index(value) if value in names else self._refuse(name, f"a {prefix}*")
        return self.int32(name)

    def double(self, name: str) -> float:
        value = self._members.get(name, 0.0)
        if isinstance(value, str) and value in _WORDS:
            return _WORDS[value]
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            self._refuse(name, "a number")
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            self._refuse(name, "a number")
        try:
            return float(value)
        except OverflowError:
            self._refuse(name, "a number that a double can hold")

    def seconds(self, name: str) -> float:
        """Read a google.protobuf.Duration, such as "1.5s"."""
        value = self.text(name) or "0s"
        if not _DURATION.fullmatch(value):
            self._refuse(name, "a duration")
        return float(value[:-1])

    def _integer(self, name: str, least: int, most: int) -> int:
        value = self._members.get(name, 0)
        if (isinstance(value, str) and _INTEGER.fullmatch(value)) or (
            isinstance(value, float) and value.is_integer()
        ):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(name, "an integer")
        if not least <= value <= most:
            self._refuse(name, f"an integer of {least} to {most}")
        return value

    def _refuse(self, name: str, expected: str) -> NoReturn:
        raise DecodeError(f"{name} should be {expected}, not {_shown(self._members[name])}")


def parse(body: bytes) -> JSONObject:
    """Read a JSON text that is one object.

    Raises:
        DecodeError: it is not.
    """
    try:
        return JSONObject(json.loads(body.decode(), parse_constant=_refuse_constant))
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise DecodeError(f"{name} outside of quotation marks is not JSON")


def _shown(value: object) -> str:
    # Never the inside of a container: it may be large, and nest as deep as the stack allows.
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."

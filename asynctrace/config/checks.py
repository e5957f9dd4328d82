"""An argument of ``init`` -> the value that is kept.

Every check raises ValueError with the remedy. An argument is never converted by guess: a number in
a string is refused, and True is not the number 1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeGuard

from asynctrace.config import text

_ATTRIBUTE_TYPES: Final = (str, bool, int, float, bytes, Sequence, Mapping)


def string(value: object) -> str:
    """A string with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("give a string that is not empty")
    return value


def flag(value: object) -> bool:
    """True or False and nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise ValueError("give True or False")
    return value


def count(*, at_least: int = 0) -> Callable[[object], int]:
    """A check for whole numbers."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise ValueError(f"give a whole number, at least {at_least}")
        return value

    return check


def seconds(value: object) -> float:
    """A time span in seconds, 0 included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("give seconds as a number")
    if not 0 <= value <= text.INDEFINITE:  # NaN is in no range
        raise ValueError(f"give seconds, from 0 to {text.INDEFINITE:.0f}")
    return float(value)


def some_seconds(value: object) -> float:
    """A time span in seconds that takes time."""
    if not seconds(value):
        raise ValueError("give seconds, more than 0")
    return seconds(value)


def timeout(value: object) -> float:
    """A time span in seconds; 0 stands for no limit, as it does in the variables."""
    return seconds(value) or text.INDEFINITE


def choice(*names: str) -> Callable[[object], str]:
    """A check for one out of ``names``, spelled exactly."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"give one of {', '.join(map(repr, names))}")
        return value

    return check


def path(value: object) -> str:
    """The path of a file; whether the file can be read shows when the exporter starts."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError("give the path of a PEM file")
    return os.fsdecode(value)


def file(value: object) -> str:
    """The path of a file, which need not exist yet."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError("give the path of a file")
    return os.fsdecode(value)


def directory(value: object) -> str:
    """The path of a directory, which need not exist yet."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError("give the path of a directory")
    return os.fsdecode(value)


def instance(kind: type, remedy: str) -> Callable[[object], object]:
    """A check for objects of one class."""

    def check(value: object) -> object:
        if not isinstance(value, kind):
            raise ValueError(remedy)
        return value

    return check


def having(*methods: str, remedy: str) -> Callable[[object], object]:
    """A check for objects (not classes) with these methods, whatever they derive from."""

    def check(value: object) -> object:
        if isinstance(value, type) or not all(callable(getattr(value, m, None)) for m in methods):
            raise ValueError(remedy)
        return value

    return check


def function(value: object) -> object:
    """Something that can be called."""
    if not callable(value):
        raise ValueError("give a function")
    return value


def headers(value: object) -> Mapping[str, str]:
    """Header names and values, both strings."""
    if not isinstance(value, Mapping):
        raise ValueError("give a mapping of header names to values")
    if not all(isinstance(part, str) for item in value.items() for part in item):
        raise ValueError("give header names and values as strings")
    checked = {text.header_name(name): text.header_value(v) for name, v in value.items()}
    return MappingProxyType(checked)


def attributes(value: object) -> Mapping[str, object]:
    """The attributes of a resource."""
    if not isinstance(value, Mapping):
        raise ValueError("give a mapping of attribute names to values")
    for name, held in value.items():
        if not isinstance(name, str) or not name:
            raise ValueError("attribute names are strings that are not empty")
        if not isinstance(held, _ATTRIBUTE_TYPES):
            raise ValueError(f"the value of {name!r} is not a string, number, bool or list of them")
    if not isinstance(value.get("service.name", ""), str):
        raise ValueError("service.name is a string")
    return MappingProxyType(dict(value))


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Whether it is a sequence of items; a string is one item."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def one_or_more(check: Callable[[object], object]) -> Callable[[object], tuple[object, ...]]:
    """A check for one item or a sequence of items."""

    def check_all(value: object) -> tuple[object, ...]:
        items = value if is_list(value) else (value,)
        return tuple(check(item) for item in items)

    return check_all


def several(check: Callable[[object], object]) -> Callable[[object], tuple[object, ...]]:
    """A check for a sequence of items."""

    def check_all(value: object) -> tuple[object, ...]:
        if not is_list(value):
            raise ValueError("give a list or a tuple")
        return tuple(check(item) for item in value)

    return check_all

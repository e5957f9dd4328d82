"""The text of an environment variable -> a value.

Every reader takes the text without surrounding blanks, never empty (an empty variable counts as
unset), and raises ValueError with the remedy: what would have been right. The types are those of
OpenTelemetry's environment variable specification; where that asks for a warning and a default, we
refuse, because a start is the one moment at which somebody is watching.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

LARGEST: Final = 2**31 - 1  # the range that the specification asks for
INDEFINITE: Final = LARGEST / 1000  # its substitute for a time-out of 0, "a very long time"

_DIGITS: Final = re.compile(r"[0-9]+")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HALF_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def string(text: str) -> str:
    """The text itself."""
    return text


def boolean(text: str) -> bool:
    """``true`` or ``false``, in any case."""
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise ValueError("write true or false") from None


def count(*, at_least: int = 0) -> Callable[[str], int]:
    """A reader of whole numbers."""

    def read(text: str) -> int:
        if not _DIGITS.fullmatch(text) or len(text) > 10 or not at_least <= int(text) <= LARGEST:
            raise ValueError(f"write a whole number from {at_least} to {LARGEST}")
        return int(text)

    return read


def duration(text: str) -> float:
    """Milliseconds -> seconds."""
    if not _DIGITS.fullmatch(text) or len(text) > 10 or int(text) > LARGEST:
        raise ValueError("write a whole number of milliseconds, 5000 for five seconds")
    return int(text) / 1000


def timeout(text: str) -> float:
    """Milliseconds -> seconds; 0 stands for no limit."""
    return duration(text) or INDEFINITE


def choice(*names: str) -> Callable[[str], str]:
    """A reader of one out of ``names``, in any case."""

    def read(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"write one of {', '.join(names)}")
        return text.lower()

    return read


def names(text: str) -> tuple[str, ...]:
    """A comma list; each name once, in the order of its first mention."""
    found = tuple(dict.fromkeys(name for item in text.split(",") if (name := item.strip())))
    if not found:
        raise ValueError("write a comma-separated list of names")
    return found


def pairs(text: str) -> dict[str, str]:
    """``key=value,key=value``, both percent-decoded; the last of a repeated key holds.

    Refused as a whole if any part of it is malformed: half a list is a guess.
    """
    found: dict[str, str] = {}
    for item in text.split(","):
        if not item.strip():
            continue
        key, separator, value = item.partition("=")
        if not separator or not key.strip():
            raise ValueError("write key=value pairs, separated by commas; a comma inside is %2C")
        found[decoded(key.strip())] = decoded(value.strip())
    return found


def attributes(text: str) -> Mapping[str, str]:
    """The attributes of a resource: pairs, all of them strings."""
    return MappingProxyType(pairs(text))


def headers(text: str) -> Mapping[str, str]:
    """The headers of the OTLP exporter: pairs, the names in lower case."""
    return MappingProxyType(
        {header_name(name): header_value(value) for name, value in pairs(text).items()}
    )


def header_name(name: str) -> str:
    """A header's name in lower case, as HTTP/2 wants it."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("a header name has letters, digits and any of !#$%&'*+-.^_`|~")
    return name.lower()


def header_value(value: str) -> str:
    """A header's value, unchanged."""
    if _CONTROL.search(value):
        raise ValueError("a header value has no control characters such as line breaks")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("a header value is text: there is half a character in it") from None
    return value


def decoded(text: str) -> str:
    """Percent-decoded UTF-8."""
    if _HALF_ESCAPE.search(text):
        raise ValueError("percent-encode it; a percent sign itself is %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("percent-encode it as UTF-8") from None

"""Which headers become attributes, and what of them stays home."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from multidict import CIMultiDict, CIMultiDictProxy

from asynctrace import semconv

REDACTED: Final = "REDACTED"

# Whatever is asked for, these hold what grants access.
ALWAYS_DENIED: Final = (
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-xsrf-token",
)

_MOST_NAMES: Final = 256
"""Headers are the client's to invent: beyond this many, a decision is made anew each time."""


class HeaderCapture:
    """The headers of one side that are captured.

    Names are regular expressions for whole names, in any case, as contrib's variables have them.
    A denied header is left out, whatever else is said of it.
    """

    __slots__ = ("_denied", "_known", "_redacted", "_side", "_wanted")

    def __init__(
        self,
        side: Literal["request", "response"],
        wanted: Iterable[str],
        redacted: Iterable[str] = (),
        denied: Iterable[str] = (),
    ) -> None:
        self._side = side
        self._wanted = _any_of(wanted)
        self._redacted = _any_of(redacted)
        self._denied = _any_of((*ALWAYS_DENIED, *denied))
        self._known: dict[str, tuple[str, bool] | None] = {}

    def __repr__(self) -> str:
        return f"<HeaderCapture of {self._side}s: {self._wanted.pattern}>"

    def attributes(
        self, headers: CIMultiDict[str] | CIMultiDictProxy[str] | Mapping[str, str]
    ) -> semconv.Attributes:
        """One attribute per header, with all its values."""
        found: dict[str, list[str]] = {}
        for name, value in headers.items():
            decision = self._decide(name)
            if decision is not None:
                key, is_secret = decision
                found.setdefault(key, []).append(REDACTED if is_secret else value)
        return {key: tuple(values) for key, values in found.items()}

    def _decide(self, name: str) -> tuple[str, bool] | None:
        """The attribute of a header and whether its value is replaced; None: not captured."""
        name = name.lower()
        if name in self._known:
            return self._known[name]
        decision = None
        if self._wanted.fullmatch(name) and not self._denied.fullmatch(name):
            key = f"http.{self._side}.header.{name}"
            decision = key, self._redacted.fullmatch(name) is not None
        if len(self._known) < _MOST_NAMES:
            self._known[name] = decision
        return decision


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    alternatives = "|".join(f"(?:{pattern})" for pattern in patterns)
    return re.compile(alternatives or r"(?!)", re.IGNORECASE)

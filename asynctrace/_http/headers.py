"""Which headers a span shows. Pure.

Headers become attributes when they are asked for, a redacted one without its value, a denied one
not at all; what grants access is always denied. Names are regular expressions for whole names, in
any case, as OpenTelemetry's own variables have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from asynctrace._http.checks import names
from asynctrace.errors import ConfigError
from asynctrace.semconv import Attributes

REDACTED: Final = "REDACTED"

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

_CAPTURE: Final = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"

_MOST_NAMES: Final = 256
"""Headers are the other side's to invent: beyond this many, each is decided anew."""


class HeaderCapture:
    """The headers of one direction that are captured."""

    __slots__ = ("_denied", "_known", "_prefix", "_redacted", "_wanted")

    def __init__(
        self,
        direction: Literal["request", "response"],
        wanted: Iterable[str],
        redacted: Iterable[str] = (),
        denied: Iterable[str] = (),
    ) -> None:
        self._prefix = f"http.{direction}.header."
        self._wanted = _any_of(wanted)
        self._redacted = _any_of(redacted)
        self._denied = _any_of((*ALWAYS_DENIED, *denied))
        self._known: dict[str, tuple[str, bool] | None] = {}

    def attributes(self, headers: Iterable[tuple[str, str]]) -> Attributes:
        """One attribute per name, with the values of all headers of that name."""
        found: dict[str, list[str]] = {}
        for name, value in headers:
            decision = self._decide(name.lower())
            if decision is not None:
                key, is_secret = decision
                found.setdefault(key, []).append(REDACTED if is_secret else value)
        return {key: tuple(values) for key, values in found.items()}

    def _decide(self, name: str) -> tuple[str, bool] | None:
        """The attribute of a header, and whether its value is replaced; None: not captured."""
        if name in self._known:
            return self._known[name]
        decision = None
        if self._wanted.fullmatch(name) and not self._denied.fullmatch(name):
            decision = self._prefix + name, self._redacted.fullmatch(name) is not None
        if len(self._known) < _MOST_NAMES:
            self._known[name] = decision
        return decision

    def __repr__(self) -> str:
        return f"<HeaderCapture {self._prefix}({self._wanted.pattern})>"


def header_capture(
    given: Mapping[str, object],
    direction: Literal["request", "response"],
    environ: Mapping[str, str],
    side: Literal["client", "server"],
) -> HeaderCapture | None:
    """What the options `capture_*_headers`, `redact_headers` and `deny_headers` ask for together.

    OpenTelemetry's variables stand in for options that are not given.

    Raises ConfigError for what is no list of regular expressions.
    """
    option = f"capture_{direction}_headers"
    wanted = names(given, option, environ, f"{_CAPTURE}{side}_{direction}".upper())
    redacted = names(given, "redact_headers", environ, f"{_CAPTURE}SANITIZE_FIELDS")
    denied = names(given, "deny_headers")
    if not wanted:
        return None
    try:
        return HeaderCapture(direction, wanted, redacted, denied)
    except re.error as error:
        raise ConfigError(option, wanted, f"not a regular expression: {error}") from None


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    alternatives = "|".join(f"(?:{pattern})" for pattern in patterns)
    return re.compile(alternatives or r"(?!)", re.IGNORECASE)

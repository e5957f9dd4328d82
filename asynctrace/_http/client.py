"""How a client's spans are shaped: its options, checked. Of whichever library the client is.

`request` is what the library has for one, with `method`, `url` and `headers`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from asynctrace import semconv
from asynctrace._http.checks import flag, function, names
from asynctrace._http.headers import HeaderCapture, header_capture
from asynctrace._http.targets import Place, matcher
from asynctrace.errors import ConfigError

Hook: TypeAlias = Callable[..., Awaitable[None] | None]

OPTIONS: Final = frozenset(
    {
        "propagate_to",
        "propagate_signed",
        "skip",
        "enrich_request",
        "enrich_response",
        "capture_request_headers",
        "capture_response_headers",
        "redact_headers",
        "deny_headers",
        "capture_query",
        "end_span_at",
        "phases",
    }
)
"""The libraries' own typed lists of them are held equal to this one by tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """The options of one client, checked."""

    propagates: Callable[[Any], bool] | None = None
    propagate_signed: bool = True
    skip: Callable[[Any], bool] | None = None
    enrich_request: Hook | None = None
    enrich_response: Hook | None = None
    request_headers: HeaderCapture | None = None
    response_headers: HeaderCapture | None = None
    capture_query: bool = True
    secret_parameters: re.Pattern[str] | None = None
    end_at_headers: bool = False
    phases: bool = False

    @classmethod
    def of(
        cls,
        options: Mapping[str, object],
        environ: Mapping[str, str],
        place_of: Callable[[Any], Place],
    ) -> Shaping | None:
        """The options and OpenTelemetry's variables, checked; None when nothing is asked for.

        Raises:
            TypeError: an option that there is not.
            ConfigError: a value that cannot be used.
        """
        for name in options:
            if name not in OPTIONS:
                raise TypeError(f"unexpected option {name!r}")
        given = {name: value for name, value in options.items() if value is not None}
        query = given.get("capture_query", True)
        parameters = () if isinstance(query, bool) else names(given, "capture_query")
        shaping = cls(
            propagates=_targets(given, "propagate_to", place_of),
            propagate_signed=flag(given, "propagate_signed", default=True),
            skip=_targets(given, "skip", place_of),
            enrich_request=function(given, "enrich_request"),
            enrich_response=function(given, "enrich_response"),
            request_headers=header_capture(given, "request", environ, "client"),
            response_headers=header_capture(given, "response", environ, "client"),
            capture_query=query is not False,
            secret_parameters=semconv.parameters(parameters),
            end_at_headers=_ends_at_headers(given),
            phases=flag(given, "phases", default=False),
        )
        return None if shaping == PLAIN else shaping

    def url(self, url: str) -> str:
        """`url.full` as it may be shown."""
        shown = semconv.redact_url(url, self.secret_parameters)
        return shown if self.capture_query else shown.partition("#")[0].partition("?")[0]

    def may_carry_context(self, request: Any) -> bool:
        """Whether headers are to be added to a request. May raise what the user's function does."""
        if not self.propagate_signed and is_signed(request.headers):
            return False
        return self.propagates is None or bool(self.propagates(request))


PLAIN: Final = Shaping()

# `SignedHeaders=` is of AWS (version 4), `headers="` of the drafts of HTTP signatures.
_SIGNATURES: Final = ("signedheaders=", 'headers="', "signature=")


def is_signed(headers: Mapping[str, str]) -> bool:
    """Whether headers hold a signature over headers: in `Authorization`, or as RFC 9421 has it."""
    if "signature-input" in headers:
        return True
    scheme, _, parameters = headers.get("authorization", "").lower().partition(" ")
    if scheme == "signature" or scheme.startswith("aws4-"):
        return True
    return any(mark in parameters for mark in _SIGNATURES)


def _targets(
    given: Mapping[str, object], option: str, place_of: Callable[[Any], Place]
) -> Callable[[Any], bool] | None:
    value = given.get(option)
    return None if value is None else matcher(option, value, place_of)


def _ends_at_headers(given: Mapping[str, object]) -> bool:
    value = given.get("end_span_at", "body")
    if value not in {"body", "headers"}:
        raise ConfigError("end_span_at", value, "'body' or 'headers' is needed")
    return value == "headers"

"""How an application's spans are shaped: the options of setup() beside those of init()."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypedDict, cast, get_args

from aiohttp import web
from opentelemetry.trace import Span

from asynctrace._http.checks import flag, function, names
from asynctrace._http.headers import HeaderCapture, header_capture
from asynctrace.config import checks
from asynctrace.errors import ConfigError

Skip: TypeAlias = "Sequence[str | re.Pattern[str]] | Callable[[web.Request], bool]"
EnrichRequest: TypeAlias = Callable[[Span, web.Request], "Awaitable[None] | None"]
EnrichResponse: TypeAlias = Callable[
    [Span, web.Request, web.StreamResponse], "Awaitable[None] | None"
]
Incoming: TypeAlias = Literal["parent", "link", "ignore"]
ForwardedHeader: TypeAlias = Literal["x-forwarded-for", "forwarded"]
ResponseHeader: TypeAlias = Literal["traceresponse", "server-timing"]


class ServerOptions(TypedDict, total=False):
    """Keyword options of `setup`, each for one application. None is the same as not given.

    What none of them asks for costs nothing.
    """

    skip: Skip | None
    """Requests that get no span: paths and route templates (`"/health"`, `"/static/*"`), patterns
    that are searched for in the path, or a predicate."""
    skipped_children: Literal["drop", "keep"] | None
    """Whether spans inside of a skipped request are dropped with it (the default), or go on as if
    there had been no request."""
    enrich_request: EnrichRequest | None
    """Called with span and request before the handler; may be a coroutine function."""
    enrich_response: EnrichResponse | None
    """Called with span, request and response when the handler has returned or raised one."""
    capture_request_headers: Sequence[str] | None
    """Names, or regular expressions for whole names, of headers that become attributes."""
    capture_response_headers: Sequence[str] | None
    redact_headers: Sequence[str] | None
    """Captured headers whose values are replaced by `REDACTED`."""
    deny_headers: Sequence[str] | None
    """Headers that are never captured, beside those that never are: credentials and cookies."""
    capture_query: bool | Sequence[str] | None
    """False leaves `url.query` out. Names are parameters whose values are redacted, beside the
    known credentials, which always are."""
    trusted_proxies: int | None
    """How many proxies stand before the service, each of which appends to the header below;
    `client.address` is then what the outermost of them saw."""
    forwarded_header: ForwardedHeader | None
    """The one header that these proxies write; any other could be the client's invention."""
    span_name: Callable[[web.Request], str] | None
    """Names the span instead of method and route; keep it low in cardinality."""
    incoming: Incoming | None
    """What the trace in a request's headers is to the span: its parent, a link, or nothing. Of an
    endpoint that faces the public, "link" or "ignore"; baggage is then not taken over, either."""
    response_headers: Sequence[ResponseHeader] | None
    """Headers that tell the caller the span, set on every response."""
    message_spans: float | None
    """The share of WebSocket messages that get a span of their own, from 0 to 1."""
    flush_after: float | None
    """Seconds. A response ends only when the spans are delivered, or when this has passed: for
    hosts that freeze a process after the response. See :func:`asynctrace.aiohttp.flush_after`."""
    protocol_errors: bool | None
    """Whether requests that aiohttp refuses before any handler or middleware sees them get a span:
    malformed ones, and those whose `Expect` is not met. Given to the application that is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The options of one application, checked."""

    skip: Callable[[web.Request], bool] | None = None
    keep_children: bool = False
    enrich_request: EnrichRequest | None = None
    enrich_response: EnrichResponse | None = None
    request_headers: HeaderCapture | None = None
    response_headers: HeaderCapture | None = None
    capture_query: bool = True
    redact_parameters: frozenset[str] = frozenset()
    trusted_proxies: int = 0
    forwarded_header: ForwardedHeader = "x-forwarded-for"
    span_name: Callable[[web.Request], str] | None = None
    incoming: Incoming = "parent"
    sent_headers: frozenset[ResponseHeader] = frozenset()
    message_spans: float = 0.0
    flush_after: float | None = None
    protocol_errors: bool = False

    @property
    def wants_announcements(self) -> bool:
        """Whether the beginning of each response has to be seen."""
        return bool(self.sent_headers or self.response_headers or self.protocol_errors)

    @classmethod
    def of(cls, options: Mapping[str, object], environ: Mapping[str, str]) -> Shape:
        """Options and contrib's variables, checked; an option wins over its variable.

        Raises:
            ConfigError: a value that cannot be used, or an option that needs another.
        """
        given = {name: value for name, value in options.items() if value is not None}
        query = given.get("capture_query", True)
        return cls(
            skip=_skip(given, environ),
            keep_children=_choice(given, "skipped_children", ("drop", "keep")) == "keep",
            enrich_request=function(given, "enrich_request"),
            enrich_response=function(given, "enrich_response"),
            request_headers=header_capture(given, "request", environ, "server"),
            response_headers=header_capture(given, "response", environ, "server"),
            capture_query=query is not False,
            redact_parameters=frozenset(
                () if isinstance(query, bool) else names(given, "capture_query")
            ),
            trusted_proxies=_count(given, "trusted_proxies"),
            forwarded_header=cast(
                ForwardedHeader, _choice(given, "forwarded_header", get_args(ForwardedHeader))
            ),
            span_name=function(given, "span_name"),
            incoming=cast(Incoming, _choice(given, "incoming", get_args(Incoming))),
            sent_headers=_sent_headers(given),
            message_spans=_share(given, "message_spans"),
            flush_after=_seconds(given, "flush_after"),
            protocol_errors=flag(given, "protocol_errors", default=False),
        )


_EXCLUDED: Final = ("OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")

PLAIN: Final = Shape()
"""What nobody asked anything of."""


def _skip(
    given: Mapping[str, object], environ: Mapping[str, str]
) -> Callable[[web.Request], bool] | None:
    value = given.get("skip")
    if value is None:
        listed = next((environ[name] for name in _EXCLUDED if environ.get(name)), "")
        patterns = [part.strip() for part in listed.split(",") if part.strip()]
        if not patterns:
            return None
        try:
            return _Skipped([re.compile("|".join(patterns))])
        except re.error as error:
            raise ConfigError("skip", listed, f"not a regular expression: {error}") from None
    if callable(value):
        return cast("Callable[[web.Request], bool]", value)
    if isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(rule, (str, re.Pattern)) for rule in value
    ):
        return _Skipped(tuple(value)) if value else None
    raise ConfigError(
        "skip", value, "a list of paths, routes or patterns, or a function, is needed"
    )


class _Skipped:
    """Whether a request is one of those listed, by its path or by the template of its route."""

    __slots__ = ("_exact", "_patterns", "_prefixes")

    def __init__(self, rules: Sequence[str | re.Pattern[str]]) -> None:
        texts = [rule for rule in rules if isinstance(rule, str)]
        self._exact = frozenset(text for text in texts if not text.endswith("*"))
        self._prefixes = tuple(text[:-1] for text in texts if text.endswith("*"))
        self._patterns = tuple(rule for rule in rules if isinstance(rule, re.Pattern))

    def __call__(self, request: web.Request) -> bool:
        path = request.path
        if path in self._exact or path.startswith(self._prefixes):
            return True
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in self._exact:
            return True
        return any(pattern.search(path) for pattern in self._patterns)


def _choice(given: Mapping[str, object], option: str, choices: tuple[str, ...]) -> str:
    """The first choice is the default."""
    value = given.get(option, choices[0])
    if isinstance(value, str) and value in choices:
        return value
    raise ConfigError(option, value, f"one of {', '.join(map(repr, choices))} is needed")


def _count(given: Mapping[str, object], option: str) -> int:
    value = given.get(option, 0)
    if type(value) is int and value >= 0:
        return value
    raise ConfigError(option, value, "a number, 0 or more, is needed")


def _share(given: Mapping[str, object], option: str) -> float:
    value = given.get(option, 0.0)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ConfigError(option, value, "a number from 0 to 1 is needed")


def _seconds(given: Mapping[str, object], option: str) -> float | None:
    value = given.get(option)
    if value is None:
        return None
    try:
        return checks.seconds(value)
    except ValueError as error:
        raise ConfigError(option, value, str(error)) from None


def _sent_headers(given: Mapping[str, object]) -> frozenset[ResponseHeader]:
    wanted = [name.lower() for name in names(given, "response_headers")]
    known = get_args(ResponseHeader)
    for name in wanted:
        if name not in known:
            raise ConfigError("response_headers", name, f"known are {', '.join(known)}")
    return frozenset(cast("list[ResponseHeader]", wanted))

"""The options of client_session() and trace_config(): those of the httpx clients."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal, TypeAlias, TypedDict

from aiohttp import ClientResponse, TraceRequestStartParams
from opentelemetry.trace import Span
from yarl import URL

from asynctrace._http.targets import Place

Request: TypeAlias = TraceRequestStartParams
"""What aiohttp tells of a request that is about to be sent: `method`, `url`, `headers`."""

Targets: TypeAlias = "Iterable[str | re.Pattern[str]] | Callable[[Request], bool]"
"""Hosts (`"api.internal"`, `"*.internal"`, `"db:8443"`), URLs up to the query
(`"https://api/v2/*"`), patterns that are searched for in such a URL, or a function."""


class ClientOptions(TypedDict, total=False):
    """Keyword options of a traced session. None is the same as not given."""

    propagate_to: Targets | None
    """Where trace context and baggage go; by default everywhere. Spans are made all the same."""
    propagate_signed: bool | None
    """False: no header is added to a request whose headers are signed."""
    skip: Targets | None
    """Requests that get no span and no header."""
    enrich_request: Callable[[Span, Request], Awaitable[None] | None] | None
    """Called with span and request before it is sent; may be a coroutine function."""
    enrich_response: Callable[[Span, Request, ClientResponse], Awaitable[None] | None] | None
    """Called with span, request and response when its headers are there."""
    capture_request_headers: Sequence[str] | None
    """Names, or regular expressions for whole names, of headers that become attributes."""
    capture_response_headers: Sequence[str] | None
    redact_headers: Sequence[str] | None
    """Captured headers whose values are replaced by `REDACTED`."""
    deny_headers: Sequence[str] | None
    """Headers that are never captured, beside those that never are (credentials, cookies)."""
    capture_query: bool | Sequence[str] | None
    """False leaves the query out of `url.full`. Names are parameters whose values are redacted,
    beside the known credentials, which always are."""
    end_span_at: Literal["body", "headers"] | None
    """When the span of a response ends: with its body, or with its headers already."""
    phases: bool | None
    """Whether the span tells how long waiting for the pool, connecting (TLS included, which aiohttp
    does not tell apart), sending, waiting and receiving took."""


def place_of(request: Request) -> Place:
    """Where a request goes."""
    return place_of_url(request.url)


def place_of_url(url: URL) -> Place:
    port = url.explicit_port
    default = URL.build(scheme=url.scheme or "http", host="h").port
    return Place(url.scheme, url.raw_host or "", None if port == default else port, url.raw_path)

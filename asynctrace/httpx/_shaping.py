"""How a client's spans are shaped: the options of create_client() and instrument()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from asynctrace._http.targets import Place

if TYPE_CHECKING:
    import re
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from typing import TypeAlias

    import httpx
    from opentelemetry.trace import Span

    Targets: TypeAlias = Iterable[str | re.Pattern[str]] | Callable[[httpx.Request], bool]
    """Hosts (`"api.internal"`, `"*.internal"`, `"db:8443"`), URLs up to the query
    (`"https://api/v2/*"`), patterns that are searched for in such a URL, or a function."""
    EnrichRequest: TypeAlias = Callable[[Span, httpx.Request], Awaitable[None] | None]
    EnrichResponse: TypeAlias = Callable[
        [Span, httpx.Request, httpx.Response], Awaitable[None] | None
    ]


class TracingOptions(TypedDict, total=False):
    """Keyword options of whatever traces a client. None is the same as not given.

    What none of them asks for costs nothing.
    """

    propagate_to: Targets | None
    """Where trace context and baggage go; by default everywhere. Spans are made all the same."""
    propagate_signed: bool | None
    """False: no header is added to a request whose headers are signed."""
    skip: Targets | None
    """Requests that get no span and no header."""
    enrich_request: EnrichRequest | None
    """Called with span and request before it is sent; may be a coroutine function."""
    enrich_response: EnrichResponse | None
    """Called with span, request and response when its headers are there, before its body."""
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
    """When the span of a response ends: with its body, or with its headers already, for those who
    stream for hours."""
    phases: bool | None
    """Whether the span tells how long waiting for the pool, connecting, TLS, sending, waiting and
    receiving took."""


def place_of(request: httpx.Request) -> Place:
    """Where a request goes."""
    url = request.url
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    return Place(url.scheme, url.raw_host.decode("ascii"), url.port, path)

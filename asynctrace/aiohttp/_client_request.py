"""What a request of aiohttp's client says of itself, and of the one that follows it. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Final

from aiohttp import ClientResponse, TraceRequestRedirectParams
from yarl import URL

from asynctrace import semconv
from asynctrace._http.client import Shaping
from asynctrace.aiohttp._client_options import Request
from asynctrace.tracing import Tracing

KNOWN_METHODS: Final = semconv.known_methods(os.environ)


def identity(request: Request) -> semconv.Attributes:
    """What requests of one method to one server have in common."""
    known = request.method in KNOWN_METHODS
    url = request.url
    return semconv.client_request(
        request.method if known else semconv.OTHER_METHOD,
        None if known else request.method,
        url.scheme,
        url.raw_host or "",
        url.port,
    )


def said(state: SimpleNamespace) -> tuple[int, str | None]:
    """What the caller says of a request: which attempt it is, and the template of its URL."""
    context = state.trace_request_ctx
    said = context.get("asynctrace") if isinstance(context, Mapping) else None
    if not isinstance(said, Mapping):
        return 0, None
    count, template = said.get("resend_count"), said.get("url_template")
    return (
        count if type(count) is int and count > 0 else 0,
        template if isinstance(template, str) and template else None,
    )


def has_context(tracing: Tracing, request: Request) -> bool:
    """Whether the caller has put a trace context into the headers, which then stays."""
    fields = tracing.propagator.fields - {"tracestate", "baggage"}
    return any(field in request.headers for field in fields)


def describe(
    shaping: Shaping, count: int, template: str | None, request: Request
) -> semconv.Attributes:
    """The attributes of a request, as the options want them."""
    described = identity(request)
    described[semconv.URL_FULL] = shaping.url(str(request.url))
    if count:
        described[semconv.HTTP_REQUEST_RESEND_COUNT] = count
    if template is not None:
        described[semconv.URL_TEMPLATE] = template
    if shaping.request_headers is not None:
        described.update(shaping.request_headers.attributes(request.headers.items()))
    return described


def location_of(response: ClientResponse) -> str | None:
    """Where a redirect leads to; None when it does not say, which aiohttp takes for an answer."""
    return response.headers.get("Location") or response.headers.get("URI")


def request_after(told: TraceRequestRedirectParams) -> Request | None:
    """The request that follows a redirect, with the headers that are about to be sent again.

    None when the location is no URL.
    """
    response = told.response
    try:
        url = told.url.join(URL(location_of(response) or ""))
    except ValueError:
        return None
    becomes_get = (response.status == 303 and told.method != "HEAD") or (
        response.status in {301, 302} and told.method == "POST"
    )
    return Request("GET" if becomes_get else told.method, url, told.headers)

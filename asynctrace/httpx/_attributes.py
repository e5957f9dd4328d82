"""What a request says of itself before it is sent: the attributes its span starts with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from asynctrace import semconv

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    import httpx

    from asynctrace._http.client import Shaping

    Build: TypeAlias = Callable[[httpx.Request], semconv.Attributes]

KNOWN_METHODS: Final = semconv.known_methods(os.environ)


def attributes(request: httpx.Request) -> semconv.Attributes:
    """Those of a request. May run after the response: reads what a request has for good."""
    return _describe(request, semconv.redact_url(str(request.url)))


def shaped(shaping: Shaping) -> Build:
    """:func:`attributes` as the options of a client want them."""
    if shaping.capture_query and not shaping.secret_parameters and not shaping.request_headers:
        return attributes

    def build(request: httpx.Request) -> semconv.Attributes:
        described = _describe(request, shaping.url(str(request.url)))
        if shaping.request_headers is not None:
            headers = request.headers.multi_items()
            described.update(shaping.request_headers.attributes(headers))
        return described

    return build


def identify(request: httpx.Request) -> semconv.Attributes:
    """Of a request, what its duration is told by."""
    described = _describe(request, str(request.url))
    del described[semconv.URL_FULL]
    described.pop(semconv.HTTP_REQUEST_METHOD_ORIGINAL, None)
    described[semconv.URL_SCHEME] = request.url.scheme
    return described


def _describe(request: httpx.Request, full_url: str) -> semconv.Attributes:
    url = request.url
    method = request.method
    known = method in KNOWN_METHODS
    return semconv.client_request(
        method if known else semconv.OTHER_METHOD,
        None if known else method,
        full_url,
        url.raw_host.decode("ascii"),
        url.port,
    )

"""What a request says of itself before it is sent: the attributes its span starts with."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from asynctrace import semconv

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from asynctrace._http.client import Shaping

    Build: TypeAlias = Callable[[httpx.Request], semconv.Attributes]

Parts: TypeAlias = "tuple[str, str, str, int | None, str, str | None, str | None]"
"""Of a URL: scheme, credentials, host, port, path, query, fragment."""

KNOWN_METHODS: Final = semconv.known_methods(os.environ)


def attributes(request: httpx.Request) -> semconv.Attributes:
    """Those of a request. May run after the response: reads what a request has for good."""
    # Not `str(url)`, which takes as long as all the rest; `parts_of` is in line for its call.
    try:
        scheme, credentials, host, port, path, query, fragment = request.url._uri_reference
    except (AttributeError, TypeError, ValueError):
        scheme, credentials, host, port, path, query, fragment = parts_of(request.url)
    common, origin = _common(request.method, scheme, host, port)
    if credentials or fragment is not None or not host:
        url = semconv.redact_url(str(request.url))
    elif query is None:
        url = origin + path
    else:
        url = f"{origin}{path}?{semconv.redact_query(query)}"
    return {**common, semconv.URL_FULL: url}


def shaped(shaping: Shaping) -> Build:
    """:func:`attributes` as the options of a client want them."""
    if shaping.capture_query and not shaping.secret_parameters and not shaping.request_headers:
        return attributes

    def build(request: httpx.Request) -> semconv.Attributes:
        described = {**_common_to(request)[0], semconv.URL_FULL: shaping.url(str(request.url))}
        if shaping.request_headers is not None:
            headers = request.headers.multi_items()
            described.update(shaping.request_headers.attributes(headers))
        return described

    return build


def identify(request: httpx.Request) -> semconv.Attributes:
    """Of a request, what its duration is told by."""
    described = {**_common_to(request)[0], semconv.URL_SCHEME: request.url.scheme}
    described.pop(semconv.HTTP_REQUEST_METHOD_ORIGINAL, None)
    return described


def parts_of(url: httpx.URL) -> Parts:
    """A URL in parts, by public names."""
    path, mark, query = url.raw_path.decode("ascii").partition("?")
    return (
        url.scheme,
        url.userinfo.decode("ascii"),
        url.raw_host.decode("ascii"),
        url.port,
        path,
        query if mark else None,
        url.fragment or None,
    )


def _common_to(request: httpx.Request) -> tuple[semconv.Attributes, str]:
    url = request.url
    return _common(request.method, url.scheme, url.raw_host.decode("ascii"), url.port)


@lru_cache(maxsize=256)
def _common(
    method: str, scheme: str, host: str, port: int | None
) -> tuple[semconv.Attributes, str]:
    """What requests of one method to one server have in common: attributes, and the URL up to the
    path. Cached, because a service asks few servers; bounded, because a crawler asks all.
    """
    is_known = method in KNOWN_METHODS
    common = semconv.client_request(
        method if is_known else semconv.OTHER_METHOD,
        None if is_known else method,
        scheme,
        host,
        port,
    )
    name = f"[{host}]" if ":" in host else host
    authority = name if port is None else f"{name}:{port}"
    return common, f"{scheme}://{authority}"

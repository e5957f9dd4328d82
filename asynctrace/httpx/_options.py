"""The options of `httpx.AsyncClient`, for type checkers; at run time nothing is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from asynctrace.httpx._shaping import TracingOptions

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from typing import Any

    from httpx import URL, AsyncBaseTransport, Limits
    from httpx._types import (
        AuthTypes,
        CertTypes,
        CookieTypes,
        HeaderTypes,
        ProxyTypes,
        QueryParamTypes,
        TimeoutTypes,
    )


class ClientOptions(TypedDict, total=False):
    """What :func:`asynctrace.create_client` hands on beside the transport. A test holds it equal to
    httpx's own."""

    auth: AuthTypes | None
    params: QueryParamTypes | None
    headers: HeaderTypes | None
    cookies: CookieTypes | None
    verify: ssl.SSLContext | str | bool
    cert: CertTypes | None
    http1: bool
    http2: bool
    proxy: ProxyTypes | None
    mounts: Mapping[str, AsyncBaseTransport | None] | None
    timeout: TimeoutTypes
    follow_redirects: bool
    limits: Limits
    max_redirects: int
    # Any: what a hook returns is awaited and thrown away; httpx says no more either.
    event_hooks: Mapping[str, list[Callable[..., Any]]] | None
    base_url: URL | str
    trust_env: bool
    default_encoding: str | Callable[[bytes], str]


class CreateOptions(ClientOptions, TracingOptions, total=False):
    """What :func:`asynctrace.create_client` takes beside its own."""

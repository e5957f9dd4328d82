"""What a request says before it is handled: its span's name, attributes, and whose child it is.

All of it comes from what aiohttp has parsed already. `request.url`, for example, is built anew for
each request and costs more than everything here together.
"""

from __future__ import annotations

from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from multidict import CIMultiDictProxy, istr
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span, get_current_span

from asynctrace import semconv
from asynctrace.propagation import Propagator, remote_span

_TRACEPARENT: Final = istr("traceparent")
_TRACESTATE: Final = istr("tracestate")
_BAGGAGE: Final = istr("baggage")

# Routes belong to the application and are few. A router of somebody's own might make one for each
# request, and must not fill the memory.
_MOST_TARGETS: Final = 2048


class Target:
    """A method and a route: what is the same for the next request like it."""

    __slots__ = ("_method", "_original", "_route", "name")

    def __init__(self, method: str, original: str | None, route: str | None) -> None:
        self._method = method
        self._original = original
        self._route = route
        self.name: Final = semconv.span_name(method, route)

    def attributes(self, request: web.Request) -> semconv.Attributes:
        """The creation-time attributes of a request for this target."""
        url = request.rel_url
        transport = request.transport
        headers = request.headers
        scheme = request.scheme
        version = request.version
        host = headers.get(hdrs.HOST)
        if host is not None:
            server = semconv.server_of(host, scheme)
        else:  # HTTP/1.0 knows no Host: what is left is the socket that the request arrived on
            server = _address(transport and transport.get_extra_info("sockname"))
        return semconv.server_request(
            self._method,
            self._original,
            self._route,
            scheme,
            url.raw_path,
            url.raw_query_string,
            "1.1" if version is HttpVersion11 else f"{version.major}.{version.minor}",
            server,
            _address(transport and transport.get_extra_info("peername")),
            headers.get(hdrs.USER_AGENT),
        )

    def __repr__(self) -> str:
        return f"<Target {self.name}>"


class Targets:
    """The targets of one application, each worked out once."""

    __slots__ = ("_found", "_known_methods")

    def __init__(self, known_methods: frozenset[str]) -> None:
        self._known_methods = known_methods
        self._found: dict[tuple[str, web.AbstractRoute], Target] = {}

    def of(self, request: web.Request) -> Target:
        """The target of a request, which aiohttp resolves before it calls any middleware."""
        key = request.method, request.match_info.route
        return self._found.get(key) or self._describe(*key)

    def _describe(self, method: str, route: web.AbstractRoute) -> Target:
        # A resource's canonical path is the template, and has the prefixes of all applications
        # above its own. The routes that stand for 404 and 405 have no resource, and are made anew
        # for each request.
        resource = route.resource
        template = None if resource is None else resource.canonical
        if method not in self._known_methods:  # the client's invention, so it is not kept
            return Target(semconv.OTHER_METHOD, method, template)
        target = Target(method, None, template)
        if resource is not None and len(self._found) < _MOST_TARGETS:
            self._found[method, route] = target
        return target


def parent_of(
    headers: CIMultiDictProxy[str], propagator: Propagator
) -> tuple[Span | None, Context | None]:
    """The caller's span, and what else its headers bring; None for what they do not.

    What happens to be current is never the parent: it is left over from where the server was
    started, and every request would become a part of that.
    """
    if not propagator.w3c or (_BAGGAGE in headers and propagator.baggage):
        before = get_current()
        context = propagator.extract(headers, before)
        span = get_current_span(context)
        return (None if span is get_current_span(before) else span), context
    traceparents = headers.getall(_TRACEPARENT, None)
    if traceparents is None:
        return None, None
    return remote_span(traceparents, headers.getall(_TRACESTATE, ())), None


def _address(end: object) -> tuple[str, int | None]:
    """One end of a connection as address and port; a Unix socket has a path, or nothing."""
    if isinstance(end, tuple):
        return end[0], end[1]
    if isinstance(end, bytes):  # Linux's abstract sockets
        return end.decode("utf-8", "replace").strip("\0"), None
    return (end, None) if isinstance(end, str) else ("", None)

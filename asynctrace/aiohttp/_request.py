"""What a request says before it is handled: its span's name, attributes, and whose child it is.

All of it comes from what aiohttp has parsed already. `request.url`, for example, is built anew for
each request and costs more than everything here together.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Final, TypeAlias

from aiohttp import HttpVersion, hdrs, web
from multidict import CIMultiDictProxy, istr
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span, get_current_span
from yarl import URL

from asynctrace import semconv
from asynctrace.propagation import Propagator, remote_span
from asynctrace.semconv import (
    CLIENT_ADDRESS,
    URL_PATH,
    URL_QUERY,
    USER_AGENT_ORIGINAL,
    redact_query,
)

TRACEPARENT: Final = istr("traceparent")
TRACESTATE: Final = istr("tracestate")
BAGGAGE: Final = istr("baggage")
UPGRADE: Final = hdrs.UPGRADE
HOST: Final = hdrs.HOST
USER_AGENT: Final = hdrs.USER_AGENT

Facts: TypeAlias = "tuple[str | None, str, HttpVersion, URL, str | None, str | None]"
"""Of a request: its Host, scheme, version and URL, the client's address, its User-Agent."""

_PREPARE: Final = web.StreamResponse.prepare.__name__

# Routes belong to the application and are few. A router of somebody's own might make one for each
# request, and must not fill the memory.
_MOST_TARGETS: Final = 2048

# A service is asked by few names. The header is the client's to choose, and what is beyond this
# many, or longer than a name can be, is worked out for each request.
_MOST_SERVERS: Final = 16
_LONGEST_SERVER: Final = 253 + len(":65535")


class Target:
    """A method and a route: what is the same for the next request like it."""

    __slots__ = ("_original", "_servers", "elsewhere", "method", "name", "route", "streams")

    def __init__(
        self, method: str, original: str | None, route: str | None, *, streams: bool = False
    ) -> None:
        self.method: Final = method
        self._original = original
        self.route: Final = route
        self.name: Final = semconv.span_name(method, route)
        self.elsewhere = False
        """Whether another application, or other tracing, makes the spans of its requests."""
        self.streams = streams
        """Whether its handler begins responses itself, or looks as if it did."""
        self._servers: dict[tuple[str | None, str, HttpVersion], semconv.Attributes] = {}

    def attributes(self, request: web.Request) -> semconv.Attributes:
        """The creation-time attributes of a request for this target.

        They may be asked for when the response is out and the connection closed, so all of it is
        what the request itself keeps.
        """
        headers = request.headers
        host, agent = headers.get(HOST), headers.get(USER_AGENT)
        facts = host, request.scheme, request.version, request.rel_url, request.remote, agent
        return self.describe(facts, _own_address(request) if host is None else None)

    def describe(
        self, facts: Facts, server: tuple[str, int | None] | None = None
    ) -> semconv.Attributes:
        """The same by what was noted of the request; `server` is told to a client without Host."""
        host, scheme, version, url, client, agent = facts
        attributes = (
            self._servers.get((host, scheme, version))
            or self._describe_server(host, scheme, version, server)
        ).copy()
        attributes[URL_PATH] = url.raw_path
        if query := url.raw_query_string:
            attributes[URL_QUERY] = redact_query(query)
        if client:
            attributes[CLIENT_ADDRESS] = client
        if agent:
            attributes[USER_AGENT_ORIGINAL] = agent
        return attributes

    def _describe_server(
        self,
        host: str | None,
        scheme: str,
        version: HttpVersion,
        server: tuple[str, int | None] | None,
    ) -> semconv.Attributes:
        """The attributes that are the same for the next request to this server."""
        attributes = semconv.server_target(
            self.method,
            self._original,
            self.route,
            scheme,
            f"{version.major}.{version.minor}",
            semconv.server_of(host, scheme) if host is not None else server or ("", None),
        )
        if host is not None and len(host) <= _LONGEST_SERVER and len(self._servers) < _MOST_SERVERS:
            self._servers[host, scheme, version] = attributes
        return attributes

    def __repr__(self) -> str:
        return f"<Target {self.name}>"


class Targets:
    """The targets of one application, each worked out once."""

    __slots__ = ("_known_methods", "known")

    def __init__(self, known_methods: frozenset[str]) -> None:
        self._known_methods = known_methods
        self.known: dict[tuple[str, web.AbstractRoute], Target] = {}
        """By method and route, which aiohttp finds before it calls any middleware."""

    def describe(self, method: str, route: web.AbstractRoute) -> Target:
        """The target of a request that is not known yet."""
        # A resource's canonical path is the template, and has the prefixes of all applications
        # above its own. The routes that stand for 404 and 405 have no resource, and are made anew
        # for each request.
        resource = route.resource
        template = None if resource is None else resource.canonical
        if method not in self._known_methods:  # the client's invention, so it is not kept
            return Target(semconv.OTHER_METHOD, method, template)
        target = Target(method, None, template, streams=_begins_responses(route.handler))
        if resource is not None and len(self.known) < _MOST_TARGETS:
            self.known[method, route] = target
        return target


def _begins_responses(handler: object) -> bool:
    """Whether the code of a handler, or of a view's methods, prepares a response.

    A look at the names that it uses, once per route. It decides only whether the beginning of the
    body is watched from the start; nothing is wrong but less is known when it is mistaken.
    """
    functions = vars(handler).values() if isinstance(handler, type) else (handler,)
    return any(
        _PREPARE in getattr(getattr(unwrap(function), "__code__", None), "co_names", ())
        for function in functions
        if callable(function)
    )


def caller_of(
    headers: CIMultiDictProxy[str], propagator: Propagator
) -> tuple[Span | None, Context | None]:
    """The caller's span, and the context that its headers make; None for what they do not bring."""
    if propagator.w3c and not (propagator.baggage and BAGGAGE in headers):
        traceparents = headers.getall(TRACEPARENT, ())
        return remote_span(traceparents, headers.getall(TRACESTATE, ())), None
    before = get_current()
    context = propagator.extract(headers, before)
    span = get_current_span(context)
    return (None if span is get_current_span(before) else span), context


def _own_address(request: web.Request) -> tuple[str, int | None]:
    """The server's end of the connection: HTTP/1.0 knows no Host.

    Newer versions of aiohttp keep it when the connection is closed; others have forgotten it then.
    """
    protocol = request.protocol
    name: object = getattr(protocol, "sockname", None)
    if name is None and request.transport is not None:
        name = request.transport.get_extra_info("sockname")
    return address_of(name)


def address_of(end: object) -> tuple[str, int | None]:
    """One end of a connection as address and port; a Unix socket has a path, or nothing."""
    if isinstance(end, tuple):
        return end[0], end[1]
    if isinstance(end, bytes):  # Linux's abstract sockets
        return end.decode("utf-8", "replace").strip("\0"), None
    return (end, None) if isinstance(end, str) else ("", None)

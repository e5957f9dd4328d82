"""The rules of the server's side: what a request says, and which status makes an error."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from asynctrace.semconv.attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_ROUTE,
    NETWORK_PROTOCOL_VERSION,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_SCHEME,
    Attributes,
)

__all__ = ["is_server_error", "server_of", "server_target"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LONGEST_PORT = len("65535")


@lru_cache(maxsize=256)
def server_of(host: str, scheme: str) -> tuple[str, int | None]:
    """`server.address` and `server.port` of a `Host` header, the scheme's port when it names none.

    Whatever cannot be told apart into name and port is the address as a whole. Cached, because a
    service sees few names; bounded, because the header is the client's to choose.
    """
    address, colon, port = host.rpartition(":")
    if not colon or (host.startswith("[") and host.endswith("]")):
        return host.strip("[]"), _DEFAULT_PORTS.get(scheme)
    if port.isascii() and port.isdigit() and len(port) <= _LONGEST_PORT:
        return address.strip("[]"), int(port)
    return host, None


def server_target(
    method: str,
    original_method: str | None,
    route: str | None,
    scheme: str,
    version: str,
    server: tuple[str, int | None],
) -> Attributes:
    """What all requests say that ask one server in one way for one route.

    `network.peer.*` is left out: where no proxy is trusted, it would repeat `client.address`.
    Empty and absent values make no attribute: an empty `http.route` would be one route of its own.
    """
    attributes: Attributes = {
        HTTP_REQUEST_METHOD: method,
        URL_SCHEME: scheme,
        NETWORK_PROTOCOL_VERSION: version,
    }
    if route:
        attributes[HTTP_ROUTE] = route
    address, port = server
    if address:
        attributes[SERVER_ADDRESS] = address
        if port is not None:
            attributes[SERVER_PORT] = port
    if original_method is not None:
        attributes[HTTP_REQUEST_METHOD_ORIGINAL] = original_method
    return attributes


def is_server_error(status_code: int) -> bool:
    """Whether a response with this status makes the server's span an error: 5xx, and never 4xx."""
    return status_code >= 500

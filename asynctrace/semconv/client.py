"""The rules of the client's side: what request and response say, and which status is an error."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from asynctrace.semconv.attributes import (
    ERROR_TYPE,
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_RESPONSE_STATUS_CODE,
    NETWORK_PROTOCOL_VERSION,
    SERVER_ADDRESS,
    SERVER_PORT,
    Attributes,
)

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

__all__ = ["client_request", "client_response", "is_client_error"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_PROTOCOL_VERSIONS: Final = {
    b"HTTP/1.0": "1.0",
    b"HTTP/1.1": "1.1",
    b"HTTP/2": "2",
    b"HTTP/2.0": "2",
    b"HTTP/3": "3",
}


def client_request(
    method: str,
    original_method: str | None,
    scheme: str,
    host: str,
    port: int | None,
) -> Attributes:
    """What requests to one server have in common before they are sent: all but `url.full`.

    `port` may be absent where it is the scheme's own; only for a scheme without one it stays so.
    """
    attributes: Attributes = {HTTP_REQUEST_METHOD: method, SERVER_ADDRESS: host}
    if port is None:
        port = _DEFAULT_PORTS.get(scheme)
    if port is not None:
        attributes[SERVER_PORT] = port
    if original_method is not None:
        attributes[HTTP_REQUEST_METHOD_ORIGINAL] = original_method
    return attributes


@lru_cache(maxsize=256)
def client_response(status_code: int, http_version: bytes | None) -> Mapping[str, AnyValue]:
    """What is known when the response's headers are there. One dict for all that answer alike.

    `http_version` is as it stands in the protocol (`b"HTTP/2"`); what is not told or not known is
    left out, never guessed.
    """
    attributes: Attributes = {HTTP_RESPONSE_STATUS_CODE: status_code}
    if http_version is not None and (version := _PROTOCOL_VERSIONS.get(http_version)):
        attributes[NETWORK_PROTOCOL_VERSION] = version
    if status_code >= 400:
        attributes[ERROR_TYPE] = str(status_code)
    return attributes


def is_client_error(status_code: int) -> bool:
    """Whether a response with this status makes the client's span an error: 4xx and 5xx."""
    return status_code >= 400

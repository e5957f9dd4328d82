"""The names our spans carry, and the pure rules that turn HTTP into names and status.

One closed list. A name comes from the stable part of OpenTelemetry's semantic conventions where
there is one, else from the registry's development part, else it is ours and begins with
`asynctrace.`. Nothing of ours emits an attribute that is not listed here; a test compares the list
with `opentelemetry.semconv`. The strings stand here as literals because importing the registry's
modules at start-up would cost more than all of this file.

Nothing in this module knows aiohttp, httpx, spans or clocks: strings in, strings out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

Attributes: TypeAlias = "dict[str, AnyValue]"

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The edition of the conventions that the integrations follow."""

# --- stable ---------------------------------------------------------------------------------

CLIENT_ADDRESS: Final = "client.address"
CLIENT_PORT: Final = "client.port"
CODE_FUNCTION_NAME: Final = "code.function.name"
CODE_STACKTRACE: Final = "code.stacktrace"
ERROR_TYPE: Final = "error.type"
EXCEPTION_ESCAPED: Final = "exception.escaped"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EXCEPTION_TYPE: Final = "exception.type"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_REQUEST_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
NETWORK_PEER_ADDRESS: Final = "network.peer.address"
NETWORK_PEER_PORT: Final = "network.peer.port"
NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
NETWORK_TRANSPORT: Final = "network.transport"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
URL_FULL: Final = "url.full"
URL_PATH: Final = "url.path"
URL_QUERY: Final = "url.query"
URL_SCHEME: Final = "url.scheme"
USER_AGENT_ORIGINAL: Final = "user_agent.original"

STABLE: Final = frozenset(
    {
        CLIENT_ADDRESS,
        CLIENT_PORT,
        CODE_FUNCTION_NAME,
        CODE_STACKTRACE,
        ERROR_TYPE,
        EXCEPTION_ESCAPED,
        EXCEPTION_MESSAGE,
        EXCEPTION_STACKTRACE,
        EXCEPTION_TYPE,
        HTTP_REQUEST_METHOD,
        HTTP_REQUEST_METHOD_ORIGINAL,
        HTTP_REQUEST_RESEND_COUNT,
        HTTP_RESPONSE_STATUS_CODE,
        HTTP_ROUTE,
        NETWORK_PEER_ADDRESS,
        NETWORK_PEER_PORT,
        NETWORK_PROTOCOL_NAME,
        NETWORK_PROTOCOL_VERSION,
        NETWORK_TRANSPORT,
        SERVER_ADDRESS,
        SERVER_PORT,
        URL_FULL,
        URL_PATH,
        URL_QUERY,
        URL_SCHEME,
        USER_AGENT_ORIGINAL,
    }
)

# --- of development status -------------------------------------------------------------------

HTTP_REQUEST_BODY_SIZE: Final = "http.request.body.size"
HTTP_RESPONSE_BODY_SIZE: Final = "http.response.body.size"
MESSAGING_BATCH_MESSAGE_COUNT: Final = "messaging.batch.message_count"
MESSAGING_CLIENT_ID: Final = "messaging.client.id"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_MESSAGE_BODY_SIZE: Final = "messaging.message.body.size"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_SYSTEM: Final = "messaging.system"
OTEL_COMPONENT_NAME: Final = "otel.component.name"
OTEL_COMPONENT_TYPE: Final = "otel.component.type"
OTEL_SPAN_SAMPLING_RESULT: Final = "otel.span.sampling_result"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
URL_TEMPLATE: Final = "url.template"

DEVELOPMENT: Final = frozenset(
    {
        HTTP_REQUEST_BODY_SIZE,
        HTTP_RESPONSE_BODY_SIZE,
        MESSAGING_BATCH_MESSAGE_COUNT,
        MESSAGING_CLIENT_ID,
        MESSAGING_DESTINATION_NAME,
        MESSAGING_MESSAGE_BODY_SIZE,
        MESSAGING_MESSAGE_ID,
        MESSAGING_OPERATION_NAME,
        MESSAGING_OPERATION_TYPE,
        MESSAGING_SYSTEM,
        OTEL_COMPONENT_NAME,
        OTEL_COMPONENT_TYPE,
        OTEL_SPAN_SAMPLING_RESULT,
        RPC_RESPONSE_STATUS_CODE,
        URL_TEMPLATE,
    }
)

# --- ours -------------------------------------------------------------------------------------

CANCELLATION_REASON: Final = "asynctrace.cancellation.reason"
LOOP_BLOCKED_TIME: Final = "asynctrace.loop.blocked_time"
LOOP_WAIT_TIME: Final = "asynctrace.loop.wait_time"
MESSAGE_DELIVERY_COUNT: Final = "asynctrace.message.delivery_count"
MESSAGE_REDELIVERED: Final = "asynctrace.message.redelivered"
QUEUE_WAIT_TIME: Final = "asynctrace.queue.wait_time"
RESPONSE_BODY_END: Final = "asynctrace.http.response.body.end"
TIME_TO_FIRST_BYTE: Final = "asynctrace.http.time_to_first_byte"
"""Seconds from the start of the request to the first byte of the response's body."""
RETURN: Final = "asynctrace.return"
TIME_TO_HEADERS: Final = "asynctrace.http.time_to_headers"
UNFINISHED: Final = "asynctrace.unfinished"
WEBSOCKET_BYTES_RECEIVED: Final = "asynctrace.websocket.bytes.received"
WEBSOCKET_BYTES_SENT: Final = "asynctrace.websocket.bytes.sent"
WEBSOCKET_CLOSE_CODE: Final = "asynctrace.websocket.close.code"
WEBSOCKET_CLOSE_INITIATOR: Final = "asynctrace.websocket.close.initiator"
WEBSOCKET_MESSAGES_RECEIVED: Final = "asynctrace.websocket.messages.received"
WEBSOCKET_MESSAGES_SENT: Final = "asynctrace.websocket.messages.sent"
WEBSOCKET_MESSAGE_SIZE: Final = "asynctrace.websocket.message.size"
WEBSOCKET_MESSAGE_TYPE: Final = "asynctrace.websocket.message.type"

HTTP_PHASES: Final = {
    phase: f"asynctrace.http.phase.{phase}"
    for phase in ("pool_wait", "connect", "tls", "send", "wait", "receive")
}

OWN: Final = frozenset(
    {
        *HTTP_PHASES.values(),
        CANCELLATION_REASON,
        LOOP_BLOCKED_TIME,
        LOOP_WAIT_TIME,
        MESSAGE_DELIVERY_COUNT,
        MESSAGE_REDELIVERED,
        QUEUE_WAIT_TIME,
        RESPONSE_BODY_END,
        TIME_TO_FIRST_BYTE,
        RETURN,
        TIME_TO_HEADERS,
        UNFINISHED,
        WEBSOCKET_BYTES_RECEIVED,
        WEBSOCKET_BYTES_SENT,
        WEBSOCKET_CLOSE_CODE,
        WEBSOCKET_CLOSE_INITIATOR,
        WEBSOCKET_MESSAGES_RECEIVED,
        WEBSOCKET_MESSAGES_SENT,
        WEBSOCKET_MESSAGE_SIZE,
        WEBSOCKET_MESSAGE_TYPE,
    }
)

NAMES: Final = STABLE | DEVELOPMENT | OWN
"""All of it, but captured headers and arguments: these are listed by their prefix."""

HEADER_PREFIXES: Final = ("http.request.header.", "http.response.header.")

# --- metrics: the durations are stable, the others are of development status ------------------

CLIENT_REQUEST_DURATION: Final = "http.client.request.duration"
SERVER_REQUEST_DURATION: Final = "http.server.request.duration"
SERVER_ACTIVE_REQUESTS: Final = "http.server.active_requests"
SERVER_REQUEST_BODY_SIZE: Final = "http.server.request.body.size"
SERVER_RESPONSE_BODY_SIZE: Final = "http.server.response.body.size"
SDK_EXPORTER_OPERATION_DURATION: Final = "otel.sdk.exporter.operation.duration"
SDK_EXPORTER_SPAN_EXPORTED: Final = "otel.sdk.exporter.span.exported"
SDK_EXPORTER_SPAN_INFLIGHT: Final = "otel.sdk.exporter.span.inflight"
SDK_PROCESSOR_SPAN_PROCESSED: Final = "otel.sdk.processor.span.processed"
SDK_PROCESSOR_SPAN_QUEUE_CAPACITY: Final = "otel.sdk.processor.span.queue.capacity"
SDK_PROCESSOR_SPAN_QUEUE_SIZE: Final = "otel.sdk.processor.span.queue.size"
SDK_SPAN_LIVE: Final = "otel.sdk.span.live"

METRICS: Final = frozenset(
    {
        CLIENT_REQUEST_DURATION,
        SERVER_REQUEST_DURATION,
        SERVER_ACTIVE_REQUESTS,
        SERVER_REQUEST_BODY_SIZE,
        SERVER_RESPONSE_BODY_SIZE,
        SDK_EXPORTER_OPERATION_DURATION,
        SDK_EXPORTER_SPAN_EXPORTED,
        SDK_EXPORTER_SPAN_INFLIGHT,
        SDK_PROCESSOR_SPAN_PROCESSED,
        SDK_PROCESSOR_SPAN_QUEUE_CAPACITY,
        SDK_PROCESSOR_SPAN_QUEUE_SIZE,
        SDK_SPAN_LIVE,
    }
)
ARGUMENT_PREFIX: Final = "asynctrace.argument."
OWN_PREFIXES: Final = (ARGUMENT_PREFIX,)

# --- HTTP, both sides ---------------------------------------------------------------------------

METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""The methods that the conventions call known, by default."""

OTHER_METHOD: Final = "_OTHER"


def known_methods(environ: Mapping[str, str]) -> frozenset[str]:
    """The methods that may appear in names and attributes: the variable replaces the whole list."""
    listed = environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "")
    return frozenset(filter(None, map(str.strip, listed.split(",")))) or METHODS


def span_name(method: str, target: str | None) -> str:
    """`GET /users/{id}`, or the method alone; `method` is the value of `http.request.method`.

    The target is a template: a path must never get here, or every URL would be a name of its own.
    """
    verb = "HTTP" if method == OTHER_METHOD else method
    return f"{verb} {target}" if target else verb


def error_type(kind: type[BaseException]) -> str:
    """A class as `error.type` and `exception.type` have it: in full, but for builtins."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


# The keys of signed URLs whose values grant access, as the conventions list them; keys are matched
# case-sensitively and kept. The first two are of the list's previous edition.
_SECRET_PARAMETER = re.compile(
    "((?:^|&)(?:AWSAccessKeyId|Signature|X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token"
    "|X-Goog-Signature|sig)=)[^&]*"
)


def redact_query(query: str, also: frozenset[str] = frozenset()) -> str:
    """The query with the values of known credentials, and of the parameters `also`, replaced by
    `REDACTED`.
    """
    if _SECRET_PARAMETER.search(query) is not None:  # a substitution costs ten times as much
        query = _SECRET_PARAMETER.sub(r"\1REDACTED", query)
    if also:
        pairs = (pair.partition("=") for pair in query.split("&"))
        query = "&".join(
            f"{key}=REDACTED" if equals and unquote_plus(key) in also else f"{key}{equals}{value}"
            for key, equals, value in pairs
        )
    return query


# --- HTTP server --------------------------------------------------------------------------------

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


# --- client --------------------------------------------------------------------------------------

_CLIENT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_PROTOCOL_VERSIONS: Final = {
    b"HTTP/1.0": "1.0",
    b"HTTP/1.1": "1.1",
    b"HTTP/2": "2",
    b"HTTP/2.0": "2",
    b"HTTP/3": "3",
}

REDACTED_CREDENTIALS: Final = "REDACTED:REDACTED"


def redact_url(url: str, secret: re.Pattern[str] | None = None) -> str:
    """`url.full` of a URL: without credentials, and without the values of secret parameters.

    `secret` finds further parameters than those of the conventions, see :func:`parameters`.
    """
    if "@" in url:
        scheme, mark, rest = url.partition("://")
        end = _AUTHORITY.match(rest).end()  # type: ignore[union-attr]  # matches always
        _, at, host = rest[:end].rpartition("@")
        if at:
            url = f"{scheme}{mark}{REDACTED_CREDENTIALS}@{host}{rest[end:]}"
    if "?" in url:
        before, hash_mark, fragment = url.partition("#")
        path, mark, query = before.partition("?")
        query = redact_query(query)
        if secret is not None:
            query = secret.sub(r"\1REDACTED", query)
        url = f"{path}{mark}{query}{hash_mark}{fragment}"
    return url


_AUTHORITY = re.compile("[^/?#]*")


def parameters(names: Iterable[str]) -> re.Pattern[str] | None:
    """What finds the values of query parameters of these names, whatever their case."""
    listed = "|".join(map(re.escape, names))
    return re.compile(f"((?:^|&)(?:{listed})=)[^&]*", re.IGNORECASE) if listed else None


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
        port = _CLIENT_PORTS.get(scheme)
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

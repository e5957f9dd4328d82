"""The names of attributes: one closed list, in three parts.

A name comes from the stable part of OpenTelemetry's semantic conventions where there is one, else
from the registry's development part, else it is ours and begins with `asynctrace.`. Nothing of
ours emits an attribute that is not listed here; a test compares the list with
`opentelemetry.semconv`. The strings stand here as literals because importing the registry's
modules at start-up would cost more than all of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

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
ARGUMENT_PREFIX: Final = "asynctrace.argument."
OWN_PREFIXES: Final = (ARGUMENT_PREFIX,)

"""The names of instruments: HTTP's, and those by which an SDK tells of itself.

The durations are stable in OpenTelemetry's conventions, the others of development status.
"""

from __future__ import annotations

from typing import Final

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

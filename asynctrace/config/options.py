"""The options of `init` for type checkers and editors; `FIELDS` is what decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.sdk.resources import Resource, ResourceDetector
    from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.util.types import AnyValue


class Options(TypedDict, total=False):
    """Keyword options of `init`. Times are in seconds; None is the same as not given.

    What each means, its environment variables and its default: `asynctrace.config.FIELDS`.
    """

    service_name: str | None
    resource_attributes: Mapping[str, AnyValue] | None
    resource: Resource | None
    resource_detectors: Sequence[str | ResourceDetector] | None
    resource_timeout: float | None
    exporter: Any  # a name, an exporter of ours or of OpenTelemetry, or a sequence of these
    exporter_file: str | PathLike[str] | None
    endpoint: str | None
    protocol: Literal["http/protobuf", "http/json", "grpc"] | None
    insecure: bool | None
    headers: Mapping[str, str] | None
    credentials: Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]] | None
    session: ClientSession | None
    timeout: float | None
    compression: Literal["none", "gzip", "deflate"] | None
    certificate: str | PathLike[str] | None
    client_certificate: str | PathLike[str] | None
    client_key: str | PathLike[str] | None
    sampler: Sampler | None
    propagators: Sequence[str] | TextMapPropagator | None
    schedule_delay: float | None
    export_timeout: float | None
    max_queue_size: int | None
    max_queue_bytes: int | None
    max_export_batch_size: int | None
    spool: str | PathLike[str] | None
    spool_max_bytes: int | None
    shutdown_timeout: float | None
    max_open_spans: int | None
    span_limits: SpanLimits | None
    span_processors: Sequence[SpanProcessor] | None
    scrub: Callable[[str, Any], Any] | None
    id_generator: IdGenerator | None
    set_global: bool | None
    disabled: bool | None
    baggage_attributes: Sequence[str] | None
    loop_monitor: bool | None
    loop_block_threshold: float | None
    engine: Literal["asynctrace", "contrib"] | None

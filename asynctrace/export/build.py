"""From settings to exporters and pipelines."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter

from asynctrace import _threads
from asynctrace.config import Config, plugins
from asynctrace.errors import ConfigError

from .adapters import SyncExporterAdapter
from .console import ConsoleExporter
from .contracts import Exporter
from .ended import Ended
from .file import OtlpFileExporter, OtlpStdoutExporter
from .pipeline import Pipeline
from .stall import StallMeter

if TYPE_CHECKING:
    from .grpc.exporter import OtlpGrpcExporter
    from .grpc.request import Endpoint as GrpcEndpoint
    from .otlp_http import Endpoint, OtlpHttpExporter


NO_LIMIT = 366 * 24 * 3600.0
"""Seconds. Event loops do not take infinity for a time."""


async def build_exporters(config: Config) -> list[Exporter]:
    """The exporters that `config` names, in its order. Nothing is connected yet.

    Raises:
        ConfigError: a certificate cannot be read, a protocol is not to be had, or `otlp_file` has
            no file.
    """
    if config.spool is not None:  # for `build_pipelines`, which is not async
        await _threads.call(importlib.import_module, f"{__package__}.spool.pipeline")
    return [await _build(given, config) for given in config.exporters]


def build_pipelines(
    exporters: Sequence[Exporter],
    config: Config,
    *,
    resource: Callable[[], Resource],
    alarm: Callable[[], None],
    ended: Ended,
    stalls: StallMeter | None = None,
) -> list[Pipeline]:
    """One pipeline for each exporter, under names that are unique."""
    kind: Callable[..., Pipeline] = Pipeline
    if config.spool is not None:
        from .spool.pipeline import SpoolingPipeline

        kind = partial(
            SpoolingPipeline, directory=Path(config.spool), max_bytes=config.spool_max_bytes
        )
    return [
        kind(
            exporter,
            name=name,
            resource=resource,
            alarm=alarm,
            ended=ended,
            stalls=stalls,
            max_queue_size=config.max_queue_size,
            max_queue_bytes=config.max_queue_bytes,
            max_export_batch_size=config.max_export_batch_size,
            schedule_delay=config.schedule_delay,
            attempt_timeout=_attempt_timeout(exporter, config),
            export_timeout=config.export_timeout or NO_LIMIT,
        )
        for name, exporter in zip(unique_names(exporters), exporters, strict=True)
    ]


def _attempt_timeout(exporter: Exporter, config: Config) -> float:
    """`timeout` is that of one OTLP request: the exporters of the SDK make several in a call."""
    if isinstance(exporter, SyncExporterAdapter):
        return config.export_timeout or NO_LIMIT
    return config.timeout or NO_LIMIT


def unique_names(exporters: Sequence[Exporter]) -> list[str]:
    """Each exporter's own name, with a number from the second of that name on."""
    names: list[str] = []
    for exporter in exporters:
        numbered = (f"{exporter.name}#{number}" for number in count(2))
        names.append(next(name for name in chain([exporter.name], numbered) if name not in names))
    return names


async def _build(given: Any, config: Config) -> Exporter:
    if given == "console":
        return ConsoleExporter()
    if given == "otlp":
        return await _build_otlp(config)
    if given == "otlp/stdout":
        return OtlpStdoutExporter()
    if given == "otlp_file":
        return _build_file(config)
    if isinstance(given, str):
        return await _build_registered(given)
    if isinstance(given, Exporter):
        return given
    return SyncExporterAdapter(cast("SpanExporter", given))


def _build_file(config: Config) -> Exporter:
    if config.exporter_file is None:
        remedy = "otlp_file needs the path of a file; the variable is ASYNCTRACE_EXPORTER_FILE"
        raise ConfigError("exporter_file", None, remedy)
    return OtlpFileExporter(config.exporter_file)


async def _build_registered(name: str) -> Exporter:
    """One of another package, which reads its settings from the environment itself."""

    def make() -> object:
        return plugins.load_exporter(name)()

    try:
        exporter = await _threads.call(make)
    except Exception as error:
        remedy = f"its package does not work here ({error!r})"
        raise ConfigError("exporter", name, remedy) from error
    return SyncExporterAdapter(cast("SpanExporter", exporter), name=name)


async def _build_otlp(config: Config) -> Exporter:
    try:
        return await (_build_grpc if config.protocol == "grpc" else _build_http)(config)
    except OSError as error:
        setting, value = (
            ("client_certificate", config.client_certificate)
            if config.client_certificate
            else ("certificate", config.certificate)
        )
        raise ConfigError(setting, value, f"give files in PEM format ({error})") from error


async def _build_http(config: Config) -> Exporter:
    endpoint_type, exporter_type = await _import_http()
    endpoint = endpoint_type(
        url=config.endpoint,
        headers=config.headers,
        json=config.protocol == "http/json",
        compression=config.compression,
        certificate=config.certificate,
        client_certificate=config.client_certificate,
        client_key=config.client_key,
    )
    return await exporter_type.create(
        endpoint, credentials=config.credentials, session=config.session
    )


async def _build_grpc(config: Config) -> Exporter:
    endpoint_type, exporter_type = await _import_grpc()
    endpoint = endpoint_type(
        url=config.endpoint,
        headers=config.headers,
        compression=config.compression,
        certificate=config.certificate,
        client_certificate=config.client_certificate,
        client_key=config.client_key,
    )
    try:
        return await exporter_type.create(endpoint, credentials=config.credentials)
    except ValueError as error:
        raise ConfigError("headers", dict.fromkeys(config.headers, "***"), str(error)) from error


async def _import_http() -> tuple[type[Endpoint], type[OtlpHttpExporter]]:
    """Import aiohttp's client in a thread: where it is new, that takes a third of a second."""
    module = await _threads.call(importlib.import_module, f"{__package__}.otlp_http")
    return module.Endpoint, module.OtlpHttpExporter


async def _import_grpc() -> tuple[type[GrpcEndpoint], type[OtlpGrpcExporter]]:
    """Import h2 in a thread, which takes as long as a slow request."""
    module = await _threads.call(importlib.import_module, f"{__package__}.grpc.exporter")
    return module.Endpoint, module.OtlpGrpcExporter

"""asynctrace: distributed tracing for asyncio services, on OpenTelemetry.

How the package is layered; imports run downward only and never through this module::

    cli, testing                       what people run and test with
    aiohttp, httpx, worker             where spans come from: server, client, jobs
    tracing                            init(): the one place that wires things together
    export                             ended spans -> batches -> the collector
    context                            which span is current, and for how long
    trace                              the OpenTelemetry tracer, made for asyncio
    config, propagation, semconv, otlp, tree
    errors, _lifecycle

The public names below are imported when they are first used, so that ``import asynctrace`` costs
neither aiohttp nor httpx nor a wire format. ``asynctrace.aiohttp`` and ``asynctrace.httpx`` are
always our modules, never the libraries of the same name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asynctrace import aiohttp, httpx, logging, worker
    from asynctrace.aiohttp import flush_after, setup
    from asynctrace.context import baggage, create_task, span, stopping, traced
    from asynctrace.errors import AsyncTraceError, ConfigError, LifecycleError
    from asynctrace.export.console import ConsoleExporter
    from asynctrace.export.file import OtlpFileExporter
    from asynctrace.httpx import create_client, instrument
    from asynctrace.initialization import init
    from asynctrace.propagation import extract, inject
    from asynctrace.tracing import FlushReport, ShutdownReport, Tracing, current
    from asynctrace.worker import (
        TracedLifoQueue,
        TracedPriorityQueue,
        TracedQueue,
        process,
        process_batch,
        publish,
        run,
        wrap_executor,
    )

    __version__: str

__all__ = [
    "AsyncTraceError",
    "ConfigError",
    "ConsoleExporter",
    "FlushReport",
    "LifecycleError",
    "OtlpFileExporter",
    "ShutdownReport",
    "TracedLifoQueue",
    "TracedPriorityQueue",
    "TracedQueue",
    "Tracing",
    "__version__",
    "aiohttp",
    "baggage",
    "create_client",
    "create_task",
    "current",
    "extract",
    "flush_after",
    "httpx",
    "init",
    "inject",
    "instrument",
    "logging",
    "process",
    "process_batch",
    "publish",
    "run",
    "setup",
    "span",
    "stopping",
    "traced",
    "worker",
    "wrap_executor",
]

# The same table as the imports above, for the running program; tests hold the three lists equal.
_HOMES = {
    "AsyncTraceError": "errors",
    "ConfigError": "errors",
    "ConsoleExporter": "export.console",
    "FlushReport": "tracing",
    "LifecycleError": "errors",
    "OtlpFileExporter": "export.file",
    "ShutdownReport": "tracing",
    "TracedLifoQueue": "worker",
    "TracedPriorityQueue": "worker",
    "TracedQueue": "worker",
    "Tracing": "tracing",
    "baggage": "context",
    "create_client": "httpx",
    "create_task": "context",
    "current": "tracing",
    "extract": "propagation",
    "flush_after": "aiohttp",
    "init": "initialization",
    "inject": "propagation",
    "instrument": "httpx",
    "process": "worker",
    "process_batch": "worker",
    "publish": "worker",
    "run": "worker",
    "setup": "aiohttp",
    "span": "context",
    "stopping": "context",
    "traced": "context",
    "wrap_executor": "worker",
}
_SUBMODULES = frozenset({"aiohttp", "httpx", "logging", "worker"})


def _resolve(name: str) -> object:
    """Import a public name on its first use and keep it, so that the second use costs nothing."""
    value: object
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(__name__)
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"


if not TYPE_CHECKING:  # a type checker that saw it would accept every misspelled name
    __getattr__ = _resolve


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""`Tracing`: the only place that wires the parts together.

::

    init(config) -> exporters -> one pipeline each, on a host -> provider -> Tracing: RUNNING

=======  ===================================================================================
life     Tracing: its start, its flushes, its end, and what happens to it meanwhile
slot     the one global Tracing of the process, and what the process is told of it
bridge   the SDK's synchronous force_flush and shutdown of a provider
parts    from settings to a provider and a propagator
=======  ===================================================================================

One process has at most one global `Tracing` at a time, which everything that was not given one
looks up when it is used: `running()`. Others are independent (`set_global=False`).
"""

from __future__ import annotations

from collections.abc import Mapping

from asynctrace import _threads
from asynctrace.config import Config
from asynctrace.export.reports import FlushReport, ShutdownReport, Statistics
from asynctrace.tracing.life import Tracing
from asynctrace.tracing.slot import current, running

__all__ = [
    "FlushReport",
    "ShutdownReport",
    "Statistics",
    "Tracing",
    "current",
    "running",
    "start",
]


async def start(options: Mapping[str, object], environ: Mapping[str, str]) -> Tracing:
    """What awaiting `init` does, when everything is imported; raises what that says."""
    # In a thread: to find what packages have registered, their files are read.
    tracing = await _threads.call(_make, options, environ)
    await tracing.start()
    return tracing


def _make(options: Mapping[str, object], environ: Mapping[str, str]) -> Tracing:
    return Tracing(Config.resolve(options, environ), options)

"""OpenTelemetry's own instrumentation of aiohttp's client, when it is active as well.

Its instrumentor adds a trace config to every session; behind ours, as it is added last. One that a
program has put before ours by hand is found by its span.
"""

from __future__ import annotations

from sys import modules
from typing import Final

from aiohttp import ClientSession

_MODULE: Final = "opentelemetry.instrumentation.aiohttp_client"


def has_contrib(session: ClientSession) -> bool:
    """Whether contrib listens to a session, too."""
    return _MODULE in modules and any(
        getattr(listener, "__module__", None) == _MODULE
        for config in session.trace_configs
        for listener in config.on_request_start
    )

"""`init()`, light enough to be named on the event loop.

What it starts takes a tenth of a second to import, and the first mention of `asynctrace.init` is
often inside a coroutine. So the rest is imported when the start is awaited, in a daemon thread.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Generator
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Unpack

from asynctrace import _threads

if TYPE_CHECKING:
    from asynctrace.config import Options
    from asynctrace.tracing import Tracing

__all__ = ["Initialization", "init"]

_WIRING = "asynctrace.tracing"


def init(**options: Unpack[Options]) -> Initialization:
    """Start tracing: `async with init(...) as tracing:` or `tracing = await init(...)`.

    Nothing happens before the await. Every option is a keyword; what is not given comes from
    OpenTelemetry's environment variables, then from the defaults (see `asynctrace.config.FIELDS`).

    Awaiting raises:
        ConfigError: a setting cannot be used; it names the setting, the value and the remedy.
        LifecycleError: another global `Tracing` is running, or starting.

    After an error, or when it is cancelled, nothing is left open and it can be awaited again.
    Leaving the `async with` shuts down with the configured `shutdown_timeout`.
    """
    return Initialization(dict(options))


class Initialization:
    """What `init` returns: await it, or enter it."""

    def __init__(self, options: dict[str, object]) -> None:
        self._options = options
        self._tracing: Tracing | None = None

    def __await__(self) -> Generator[object, None, Tracing]:
        return self._start().__await__()

    async def __aenter__(self) -> Tracing:
        return await self._start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tracing is not None:
            await self._tracing.shutdown()

    async def _start(self) -> Tracing:
        if self._tracing is not None:
            self._tracing.require_running()
        else:
            wiring = await _import_wiring()
            self._tracing = await wiring.start(self._options, os.environ)
        return self._tracing

    def __repr__(self) -> str:
        return f"<init {self._tracing!r}>" if self._tracing else "<init, not awaited yet>"


async def _import_wiring() -> ModuleType:
    module = sys.modules.get(_WIRING)
    # One that is being imported by another thread just now is there, too, and not complete.
    if module is None or not hasattr(module, "start"):
        module = await _threads.call(importlib.import_module, _WIRING)
    return module

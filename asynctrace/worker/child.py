"""Tracing in the processes of a pool: packed up here, started there, flushed when they end."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
from multiprocessing import util
from typing import Any
from weakref import WeakKeyDictionary

from asynctrace.initialization import init
from asynctrace.tracing import Tracing, running

_logger = logging.getLogger("asynctrace")

_START_TIMEOUT = 10.0  # seconds that the first job waits at most; spans are recorded before, too
_LAST_CALL = 1.0  # seconds beside the shutdown's own time-out

_packed: WeakKeyDictionary[Tracing, bytes | None] = WeakKeyDictionary()


def pack(tracing: Tracing) -> bytes | None:
    """The options of `tracing`, pickled. None when its exporter cannot be: nothing would arrive."""
    if tracing not in _packed:
        _packed[tracing] = _pack(tracing)
    return _packed[tracing]


def _pack(tracing: Tracing) -> bytes | None:
    # What is not an option comes from the environment, and a child inherits that.
    options = {name: value for name, value in tracing.options.items() if name != "set_global"}
    refused = sorted(name for name, value in options.items() if not _can_be_pickled(value))
    if "exporter" in refused:
        _logger.warning(
            "The exporter cannot be pickled: the processes of a pool pass context on, but send no "
            "spans. Hint: let them, and init(), have one that is named, such as 'otlp'."
        )
        return None
    if refused:
        _logger.warning(
            "Options that cannot be pickled do not hold in the processes of a pool: %s. Hint: "
            "give functions and classes that are defined in a module.",
            ", ".join(refused),
        )
    return pickle.dumps({name: value for name, value in options.items() if name not in refused})


def _can_be_pickled(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


# ---- in the child

_own: _OwnTracing | None = None


def ensure_tracing(options: bytes) -> None:
    """Start tracing by these options, unless one runs in this process or could not be started.

    A forked child has that of its parent, which goes on by itself.
    """
    global _own
    if _own is None and running() is None:
        _own = _OwnTracing(options)
        _own.start()


class _OwnTracing:
    """A tracing on a loop in a daemon thread, for a process that has none."""

    def __init__(self, options: bytes) -> None:
        self._options = options
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asynctrace pool", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._patience = _LAST_CALL

    def start(self) -> None:
        """Return when it runs, or cannot be made to."""
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads
            _tell_failure(error)
            return
        self._started.wait(_START_TIMEOUT)
        # Children of multiprocessing end without `atexit`.
        util.Finalize(None, self.finish, exitpriority=100)

    def finish(self) -> None:
        """Shut it down, and wait for that as long as it may take."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(self._patience)

    def _run(self) -> None:
        try:
            asyncio.run(self._trace())
        except Exception as error:
            _tell_failure(error)
        finally:
            self._started.set()

    async def _trace(self) -> None:
        # Here, because it imports what the options are made of, and that may not be there: a
        # function of a program that was typed in, say.
        options: dict[str, Any] = pickle.loads(self._options)
        async with init(**options) as tracing:
            self._patience += tracing.config.shutdown_timeout
            self._loop = asyncio.get_running_loop()
            self._started.set()
            await self._end.wait()


def _tell_failure(error: Exception) -> None:
    _logger.warning("No tracing in this process of a pool: %s", error)

"""SIGINT and SIGTERM while a worker runs: the first one asks, the second one is obeyed at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

_logger = logging.getLogger("asynctrace")

_STOP = (signal.SIGINT, signal.SIGTERM)

Handler = Callable[[int, FrameType | None], Any] | int | None


class StopSignals:
    """While entered, the first signal is noted in `received` and `notify` is called.

    `notify` runs in the main thread between any two bytecodes, as signal handlers do; it should
    only schedule. After the first signal the system's own action is in force, so that a second one
    ends the process at once even when its event loop is blocked.

    A signal that is ignored (``nohup``, a job in the background) stays so, and handlers that the
    program sets meanwhile are left alone; those of before are restored at the end. Outside of the
    main thread nothing can be handled, and a log line says so.

    A forked child inherits the handlers, but has nothing to stop (the loop is the parent's): it is
    given those of before with its first signal, which they then handle.
    """

    def __init__(self, notify: Callable[[], object]) -> None:
        self.received: int | None = None
        self._notify = notify
        self._pid = os.getpid()
        self._replaced: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            _logger.info("run() is not in the main thread: SIGINT and SIGTERM are not handled")
            return self
        for number in _STOP:
            # None: a handler that is not Python's, and could not be restored.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._replaced[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        ours = signal.SIG_DFL if self.received is not None else self._on_signal
        for number, before in self._replaced.items():
            if signal.getsignal(number) == ours:
                signal.signal(number, before)
        self._replaced.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self.__exit__()
            signal.raise_signal(number)
            return
        self.received = number
        for taken in self._replaced:
            if signal.getsignal(taken) == self._on_signal:
                signal.signal(taken, signal.SIG_DFL)
        self._notify()

    def __repr__(self) -> str:
        return f"<StopSignals received={self.received}>"

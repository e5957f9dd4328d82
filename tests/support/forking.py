"""Work in a forked child of the test, and what went wrong there."""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable

TIMEOUT = 30.0
"""Seconds after which the child is taken to be dead-locked."""


def in_child(work: Callable[[], None]) -> str:
    """Fork, run `work` in the child, which ends with it; the traceback, empty if there is none."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: the parent has other threads
        pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[:60_000])
        finally:
            os._exit(0)  # past the test runner, whose process this is not
    os.close(writer)
    try:
        return _read(reader)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)


def _read(reader: int) -> str:
    told = b""
    end = time.monotonic() + TIMEOUT
    while select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = os.read(reader, 65536)
        if not piece:
            return told.decode()
        told += piece
    return f"the child has not ended within {TIMEOUT:g} s"

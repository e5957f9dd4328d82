"""The process that we run in: its forks and its end."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Protocol


class Inhabitant(Protocol):
    """Somebody who must know when the process forks or ends."""

    def after_fork(self) -> None:
        """In the child, before any other code of the program: no lock may be waited for."""

    def at_exit(self) -> None:
        """The interpreter exits: no loop runs, and no thread can be started any more."""


_inhabitants: weakref.WeakSet[Inhabitant] = weakref.WeakSet()
_hooked = False


def watch(inhabitant: Inhabitant) -> None:
    """Tell `inhabitant` of forks and of the exit, as long as it exists."""
    global _hooked
    _inhabitants.add(inhabitant)
    if not _hooked:
        _hooked = True
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
    finalize_in_child(inhabitant)


def forget(inhabitant: Inhabitant) -> None:
    """The opposite of `watch`; silent when it is not watched."""
    _inhabitants.discard(inhabitant)


def finalize_in_child(inhabitant: Inhabitant) -> None:
    """Have `at_exit` called in a child of `multiprocessing`, which ends without `atexit`.

    Does nothing in other processes. A forked child clears its finalizers at its start, so this is
    called again when the child first needs it.
    """
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is None or util is None or process.parent_process() is None:
        return
    reference = weakref.ref(inhabitant)

    def finish() -> None:
        found = reference()
        if found is not None:
            found.at_exit()

    util.Finalize(None, finish, exitpriority=0)


def _after_fork() -> None:
    for inhabitant in list(_inhabitants):
        inhabitant.after_fork()


def _at_exit() -> None:
    for inhabitant in list(_inhabitants):
        inhabitant.at_exit()

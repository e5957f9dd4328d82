"""The process that we run in: its forks and its end."""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from typing import Protocol


class Inhabitant(Protocol):
    """Somebody who must know when the process forks or ends."""

    def after_fork(self) -> None:
        """In the child, before any other code of the program: no lock may be waited for."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing that the exit would have to wait for."""

    def at_exit(self, *, since: float, sharing: int) -> None:
        """The interpreter exits: no loop runs, and no thread can be started any more.

        It does so `since` a time (of `time.monotonic`), and so many are `sharing` what is left.
        """


_inhabitants: weakref.WeakSet[Inhabitant] = weakref.WeakSet()
_kept: set[Inhabitant] = set()
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
    """The opposite of `watch` and `keep`; silent when it is not watched."""
    _inhabitants.discard(inhabitant)
    _kept.discard(inhabitant)


def keep(inhabitant: Inhabitant) -> None:
    """Have one that is being finalized live on, and watched, until the process ends.

    Safe in a finalizer, where the weak references to it are gone already.
    """
    _kept.add(inhabitant)
    finalize_in_child(inhabitant)


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
            found.at_exit(since=time.monotonic(), sharing=1)

    util.Finalize(None, finish, exitpriority=0)


def _after_fork() -> None:
    for inhabitant in {*_inhabitants, *_kept}:
        inhabitant.after_fork()


def _at_exit() -> None:
    since = time.monotonic()
    busy = []
    for inhabitant in {*_inhabitants, *_kept}:
        if inhabitant.idle:
            inhabitant.at_exit(since=since, sharing=1)
        else:
            busy.append(inhabitant)
    for number, inhabitant in enumerate(busy):
        inhabitant.at_exit(since=since, sharing=len(busy) - number)

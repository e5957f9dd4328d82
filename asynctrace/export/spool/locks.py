"""The lock that says whose a segment is. It ends with its owner, however that ends."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt

    # A byte that no segment has: locked ones cannot be read by others. Not beyond what 32 bits can
    # tell, for the C library's `_locking` has not always taken more.
    _BEYOND = 2**30

    def try_lock(fd: int) -> bool:
        """Lock the open file unless somebody else has; never waits."""
        try:
            os.lseek(fd, _BEYOND, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(fd: int) -> None:
        """The opposite of `try_lock`."""
        os.lseek(fd, _BEYOND, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Lock the open file unless somebody else has; never waits."""
        # Not lockf: its locks are of the process, and end when any of its files is closed.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def unlock(fd: int) -> None:
        """The opposite of `try_lock`; also where a forked child still has the file open."""
        fcntl.flock(fd, fcntl.LOCK_UN)

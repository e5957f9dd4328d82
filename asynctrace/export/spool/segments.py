"""One segment file: made and appended to by its writer, claimed and deleted by its sender.

Both hold the lock of the file meanwhile. Everything here blocks and may raise OSError.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .format import HEADER, Contents, Record, encode_acknowledgement, encode_record, read_segment
from .locks import try_lock, unlock
from .rules import Segment, SegmentName

_ATTEMPTS = 8
_BINARY = getattr(os, "O_BINARY", 0)


class OpenSegment:
    """A segment that this process has open and locked."""

    def __init__(self, directory: Path, name: SegmentName, fd: int) -> None:
        self.name = name
        self.size = os.fstat(fd).st_size
        self.intact = True
        """Whether it ends where its last record ends."""
        self._path = directory / str(name)
        self._fd = fd
        # A thread may still be writing when the task that waited for it was cancelled and lets go.
        self._lock = threading.Lock()

    def release(self) -> None:
        """Close it; from now on it is anybody's. Silent the second time."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                # A forked child may have the file open as well: closing alone would not unlock it.
                with suppress(OSError):
                    unlock(fd)
                os.close(fd)

    def leave(self) -> None:
        """In a forked child: close it without taking the lock from the parent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # Of a task that was cancelled while a thread opened it: nobody else knows of it. A forked
        # child has left it; there, a thread of the parent may hold the lock for ever.
        if self._fd >= 0:
            self.release()

    def _append(self, data: bytes) -> None:
        """All of it or nothing.

        Raises:
            OSError: it could not be written; what was written of it is taken off again.
        """
        with self._lock:
            if self._fd < 0:
                raise OSError(errno.EBADF, "the segment was released", str(self._path))
            written = 0
            try:
                while written < len(data):
                    written += os.write(self._fd, data[written:])
            except OSError:
                self.intact = self._truncate()
                raise
            self.size += written

    def _truncate(self) -> bool:
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            return False
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.size} bytes>"


class Writing(OpenSegment):
    """A segment that is being written."""

    @classmethod
    def create(cls, directory: Path, exporter: str) -> Writing:
        """Make the directory where it is missing, and in it a segment with nothing but the header.

        Spans may hold what is nobody's business: only the owner may read them.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(_ATTEMPTS):
            name = SegmentName(time.time_ns(), os.getpid(), os.urandom(4).hex(), exporter)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _BINARY
            fd = os.open(directory / str(name), flags, 0o600)
            # A sender may look at the file before it is locked, and delete it as an empty one.
            if try_lock(fd) and os.fstat(fd).st_nlink:
                break
            os.close(fd)
            (directory / str(name)).unlink(missing_ok=True)
        else:
            raise OSError(errno.ENOLCK, "files cannot be locked", str(directory))
        segment = cls(directory, name, fd)
        try:
            segment._append(HEADER)
        except OSError:
            segment.release()
            segment._path.unlink(missing_ok=True)
            raise
        return segment

    @property
    def has_records(self) -> bool:
        return self.size > len(HEADER)

    @property
    def usable(self) -> bool:
        """Whether what is appended can be read: somebody may have deleted the file."""
        return self.intact and os.fstat(self._fd).st_nlink > 0

    def append(self, body: bytes, spans: int) -> None:
        """Write one request, all of it or nothing."""
        self._append(encode_record(body, spans))


class Claim(OpenSegment):
    """A segment that is being sent, or deleted: nobody else does so meanwhile."""

    @classmethod
    def take(cls, directory: Path, name: SegmentName) -> Claim | None:
        """Claim a segment; None when it is being written or sent, or is gone."""
        path = directory / str(name)
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | _BINARY)
        except (FileNotFoundError, PermissionError):
            return None
        # Between the opening and the locking its last sender may have deleted it.
        if try_lock(fd) and os.fstat(fd).st_nlink:
            return cls(directory, name, fd)
        os.close(fd)
        return None

    def read(self) -> Contents:
        """What is left to be sent."""
        return read_segment(self._path.read_bytes())

    def acknowledge(self, record: Record) -> None:
        """Note that this record and all before it are done with."""
        self._append(encode_acknowledgement(record.end))

    def delete(self) -> None:
        """Delete it, and be done with it."""
        if os.name == "nt":  # no open file can be deleted there
            self.release()
        self._path.unlink(missing_ok=True)
        self.release()


def list_segments(directory: Path) -> list[Segment]:
    """The segments in the directory, of all processes; none when there is no directory."""
    try:
        with os.scandir(directory) as entries:
            return list(_segments(entries))
    except FileNotFoundError:
        return []


def _segments(entries: Iterator[os.DirEntry[str]]) -> Iterator[Segment]:
    for entry in entries:
        name = SegmentName.parse(entry.name)
        if name is not None:
            with suppress(FileNotFoundError):  # sent and deleted just now
                yield Segment(name, entry.stat(follow_symlinks=False).st_size)


def read_without_claim(directory: Path, name: SegmentName) -> Contents:
    """What a segment holds at this moment, for showing it; it may be written meanwhile."""
    return read_segment((directory / str(name)).read_bytes())


def is_busy(directory: Path, name: SegmentName) -> bool:
    """Whether a process that lives writes or sends this segment."""
    claim = Claim.take(directory, name)
    if claim is None:
        return True
    claim.release()
    return False

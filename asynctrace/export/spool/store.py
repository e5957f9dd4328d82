"""A spool directory as one exporter uses it. Everything here blocks: never on the event loop."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from .format import HEADER, OVERHEAD
from .rules import SegmentName, evictions, segment_limit, sendable
from .segments import Claim, Writing, list_segments


class Store:
    """Appends records to segments of its own, and hands out those that are to be sent.

    Any thread; one at a time, the others wait. What the spool takes on disk, all processes
    together, stays below `max_bytes`: the oldest segments are deleted for the newest. Processes
    that write at the same instant can overshoot it by a record each.
    """

    def __init__(self, directory: Path, *, exporter: str, max_bytes: int) -> None:
        self.directory = directory
        self.exporter = exporter
        self.max_bytes = max_bytes
        self.evicted = 0
        """Spans that were deleted unsent for the sake of the bound."""
        self.evicted_own = 0
        """Those of them that this store itself had written."""
        self.bytes = 0
        """What the directory takes, as far as this store has seen."""
        self._lock = threading.Lock()
        self._writing: Writing | None = None
        self._own: set[SegmentName] = set()
        self._aside: set[SegmentName] = set()

    @property
    def is_writing(self) -> bool:
        """Whether a segment is being written, and locked."""
        return self._writing is not None

    def prepare(self) -> None:
        """Make the directory; where it is stays the same when the process goes elsewhere.

        Raises:
            OSError: it cannot be made, or not be written.
        """
        self.directory = self.directory.absolute()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.directory))

    def append(self, body: bytes, spans: int) -> None:
        """Write one record.

        Raises:
            OSError: it could not be written; `errno.ENOSPC` also when it does not fit into the
                bound, not even when everything that may go is deleted.
        """
        with self._lock:
            self._segment_for(len(body) + OVERHEAD).append(body, spans)
            self.bytes += len(body) + OVERHEAD

    def seal(self) -> None:
        """End the segment that is being written, if there is one: it may be sent now."""
        with self._lock:
            self._seal()

    def claim(self) -> Claim | None:
        """The oldest segment of this exporter that nobody writes or sends, if there is one.

        When nothing else is left, what this store itself has written: it goes on in a new one.
        """
        claim = self._claim_any()
        if claim is None and self._has_written():
            self.seal()
            claim = self._claim_any()
        return claim

    def set_aside(self, name: SegmentName) -> None:
        """Claim this segment no more: it cannot be read, and would be in the way of others."""
        self._aside.add(name)

    def after_fork(self) -> None:
        """In a forked child: nothing written, no lock of the parent's touched."""
        writing, self._writing = self._writing, None
        self._lock = threading.Lock()
        self._own = set()
        self.evicted = self.evicted_own = self.bytes = 0
        if writing is not None:
            writing.leave()

    def _segment_for(self, size: int) -> Writing:
        """The segment that a record of this size goes to, with room made for it."""
        writing = self._writing
        if writing is not None and (
            not writing.usable
            or (writing.has_records and writing.size + size > segment_limit(self.max_bytes))
        ):
            self._seal()
        self._make_room(size if self._writing else size + len(HEADER))
        if self._writing is None:
            self._writing = Writing.create(self.directory, self.exporter)
            self._own.add(self._writing.name)
        return self._writing

    def _make_room(self, incoming: int) -> None:
        busy: set[SegmentName] = set()
        while True:
            segments = list_segments(self.directory)
            self.bytes = sum(segment.size for segment in segments)
            self._own.intersection_update(segment.name for segment in segments)
            chosen = evictions(segments, incoming=incoming, max_bytes=self.max_bytes, busy=busy)
            if chosen is None:
                raise OSError(
                    errno.ENOSPC,
                    f"{incoming} bytes do not fit into {self.max_bytes}",
                    str(self.directory),
                )
            if not chosen:
                return
            for segment in chosen:
                if not self._evict(segment.name):
                    busy.add(segment.name)

    def _evict(self, name: SegmentName) -> bool:
        claim = Claim.take(self.directory, name)
        if claim is None:
            return False
        spans = claim.read().spans
        claim.delete()
        self.evicted += spans
        if name in self._own:
            self.evicted_own += spans
        return True

    def _seal(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.release()

    def _has_written(self) -> bool:
        writing = self._writing
        return writing is not None and writing.has_records

    def _claim_any(self) -> Claim | None:
        segments = list_segments(self.directory)
        self.bytes = sum(segment.size for segment in segments)
        for name in sendable(segments, self.exporter):
            claim = None if name in self._aside else Claim.take(self.directory, name)
            if claim is not None:
                return claim
        return None

    def __repr__(self) -> str:
        return f"<Store {str(self.directory)!r} of {self.exporter!r} writing={self._writing!r}>"

"""One segment file, where the file system does not do what it should."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from asynctrace.export.spool import segments
from asynctrace.export.spool.segments import Claim, Writing, is_busy, list_segments
from asynctrace.export.spool.store import Store


def fail_with(code: int) -> object:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def test_without_locks_there_is_no_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that cannot lock, nobody could tell who writes: told, and nothing left."""
    monkeypatch.setattr(segments, "try_lock", lambda _fd: False)
    with pytest.raises(OSError, match="cannot be locked") as caught:
        Writing.create(tmp_path, "otlp")
    assert caught.value.errno == errno.ENOLCK
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No empty files pile up, and none stays open."""
    monkeypatch.setattr(os, "write", fail_with(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        Writing.create(tmp_path, "otlp")
    assert list(tmp_path.iterdir()) == []


def test_a_segment_that_ends_in_a_torn_record_is_written_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot even be taken off again stays, and the next record goes to another file."""
    store = Store(tmp_path, exporter="otlp", max_bytes=2**20)
    store.append(b"one", 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail_with(errno.EIO))
        patched.setattr(os, "ftruncate", fail_with(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            store.append(b"lost", 1)
    store.append(b"two", 1)
    store.seal()
    found = []
    while (claim := store.claim()) is not None:
        found.append([record.body for record in claim.read().records])
        claim.delete()
    assert found == [[b"one"], [b"two"]]


def test_it_is_busy_while_it_is_written_or_sent(tmp_path: Path) -> None:
    """Asking takes nothing from anybody; one that is gone can be claimed by nobody."""
    writing = Writing.create(tmp_path, "otlp")
    (segment,) = list_segments(tmp_path)
    assert is_busy(tmp_path, segment.name)
    writing.append(b"one", 1)
    assert repr(writing) == f"<Writing {segment.name} {writing.size} bytes>"
    writing.release()
    assert not is_busy(tmp_path, segment.name)
    claim = Claim.take(tmp_path, segment.name)
    assert claim is not None
    assert is_busy(tmp_path, segment.name)
    claim.delete()
    assert Claim.take(tmp_path, segment.name) is None
    assert list_segments(tmp_path) == []
    assert list_segments(tmp_path / "missing") == []


def test_one_that_is_left_keeps_its_lock_for_the_parent(tmp_path: Path) -> None:
    """What a forked child does: its descriptor is closed, and not unlocked."""
    writing = Writing.create(tmp_path, "otlp")
    duplicate = os.dup(writing._fd)  # as the parent's: of the same open file
    writing.leave()
    writing.leave()
    assert is_busy(tmp_path, writing.name)
    os.close(duplicate)
    assert not is_busy(tmp_path, writing.name)

"""Whose a segment is: the lock of an open file, on both kinds of systems."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from asynctrace.export.spool import locks


class Msvcrt(ModuleType):
    """What Windows does: a region is locked by one open file, and only its locker can unlock it."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.locked: dict[tuple[int, int], int] = {}
        """By file and place: which descriptor holds it."""

    def locking(self, fd: int, mode: int, size: int) -> None:
        assert size == 1
        place = os.fstat(fd).st_ino, os.lseek(fd, 0, os.SEEK_CUR)
        if mode == self.LK_UNLCK:
            if self.locked.pop(place, None) != fd:
                raise PermissionError
        elif self.locked.setdefault(place, fd) != fd:
            raise PermissionError


@pytest.fixture(params=["here", "windows"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is here, and as it is on Windows."""
    if request.param == "here" or sys.platform == "win32":
        return locks
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    spec = importlib.util.spec_from_file_location("locks_of_windows", locks.__file__)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    monkeypatch.undo()
    return loaded


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    """One file with some bytes in it, opened by two."""
    path = tmp_path / "segment"
    path.write_bytes(b"12345")
    opened = [os.open(path, os.O_RDWR | os.O_APPEND) for _ in range(2)]
    yield opened
    for fd in opened:
        os.close(fd)


def test_one_holds_it_and_the_other_does_not_wait(module: ModuleType, files: list[int]) -> None:
    """The second is told no at once; when the first lets go it is the second's."""
    first, second = files
    assert module.try_lock(first)
    assert not module.try_lock(second)
    module.unlock(first)
    assert module.try_lock(second)
    assert not module.try_lock(first)


def test_what_is_locked_can_be_written_and_read(module: ModuleType, files: list[int]) -> None:
    """The lock is of nobody's bytes: it moves no end, and others see what is there."""
    first, second = files
    assert module.try_lock(first)
    os.write(first, b"67")
    os.lseek(second, 0, os.SEEK_SET)
    assert os.read(second, 100) == b"1234567"
    module.unlock(first)

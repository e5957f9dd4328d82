"""Spans in a file or on standard output, one request a line, as collectors and their file receivers
read it.

https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

from asynctrace.otlp import decode, json

from .contracts import Batch
from .writing import WritingExporter


class OtlpFileExporter(WritingExporter):
    """Appends OTLP as JSON lines to the file at `path`, one line for each batch.

    The file is opened for each batch and written at once. So it can be rotated at any time, several
    processes may share it, and what a writer that was killed has left unfinished stays on a line of
    its own. Directories that are missing are made.
    """

    def __init__(self, path: str | os.PathLike[str], *, name: str = "file") -> None:
        super().__init__(name=name)
        self.path = Path(path).absolute()

    def _write(self, batch: Batch) -> None:
        line = _line(batch)
        try:
            file = self._open()
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self._open()
        try:
            _append(file, line)
        finally:
            os.close(file)

    def _open(self) -> int:
        binary = getattr(os, "O_BINARY", 0)  # Windows
        return os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | binary, 0o644)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]} {str(self.path)!r}>"


class OtlpStdoutExporter(WritingExporter):
    """Writes OTLP as JSON lines to standard output, one line for each batch."""

    def __init__(self, *, name: str = "stdout") -> None:
        super().__init__(name=name)

    def _write(self, batch: Batch) -> None:
        stream = sys.stdout
        if stream is None:  # Python's own way to say that a process has none
            raise OSError("the process has no standard output")
        stream.write(_line(batch).decode())
        stream.flush()


def _line(batch: Batch) -> bytes:
    return json.encode_json(decode.decode_request(batch.to_otlp())) + b"\n"


def _append(file: int, line: bytes) -> None:
    """Write a whole line, or raise OSError."""
    _lock(file)
    if _is_torn(file):
        line = b"\n" + line
    written = os.write(file, line)
    if written < len(line):
        raise OSError(f"the disk took {written} of {len(line)} bytes")


def _lock(file: int) -> None:
    """Until it is closed: a line that another is just writing would look like a torn one."""
    if sys.platform != "win32":
        with suppress(OSError):  # a file system, or a pipe, that knows no locks
            fcntl.flock(file, fcntl.LOCK_EX)


def _is_torn(file: int) -> bool:
    """Whether the last line has no end."""
    try:
        size = os.lseek(file, 0, os.SEEK_END)
    except OSError:  # a pipe
        return False
    if not size:
        return False
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1) != b"\n"

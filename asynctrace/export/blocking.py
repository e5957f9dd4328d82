"""Blocking sockets that keep one absolute deadline: for the exit, when no loop is left.

The time-out of a socket is for each single call. A receiver that sends a byte now and then would
hold up the process for as long as it likes, so every call here gets only the time that remains.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing_extensions import Buffer  # of `collections.abc` only from Python 3.12 on

SLICE = 64 * 1024
"""Bytes that are written at once."""


def connect(addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
    """A connection to the first address that answers; each gets an equal share of the time.

    Raises:
        OSError: there is none; the error of the last address.
    """
    for number, address in enumerate(addresses, 1):
        share = time_left(deadline) / (len(addresses) - number + 1)
        try:
            return socket.create_connection((address, port), timeout=share)
        except OSError:
            if number == len(addresses):
                raise
    raise OSError("no address is known")


def time_left(deadline: float) -> float:
    """Seconds until `deadline` (of `time.monotonic`).

    Raises:
        TimeoutError: it has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline passed")
    return left


class DeadlineSocket:
    """As much of a socket as `http.client` uses. Whoever made the real one closes it."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: Buffer) -> None:
        # Not the socket's own: over TLS that gives each record the whole time-out.
        rest = memoryview(data).cast("B")
        while rest:
            self._sock.settimeout(time_left(self._deadline))
            rest = rest[self._sock.send(rest[:SLICE]) :]

    def recv(self, size: int) -> bytes:
        self._sock.settimeout(time_left(self._deadline))
        return self._sock.recv(size)

    def recv_into(self, buffer: Buffer) -> int:
        self._sock.settimeout(time_left(self._deadline))
        return self._sock.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        """For reading; `http.client` asks for nothing else."""
        assert mode == "rb"
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """`http.client` closes when it has the headers, and reads the body afterwards."""

    def as_socket(self) -> socket.socket:
        """What it is to `http.client`, which asks for no more than there is here."""
        return cast("socket.socket", self)

    def __repr__(self) -> str:
        return f"<DeadlineSocket {self._deadline - time.monotonic():.3f} s left>"


class _Reader(io.RawIOBase):
    def __init__(self, sock: DeadlineSocket) -> None:
        super().__init__()
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        return self._sock.recv_into(buffer)

"""A call over a plain socket, for the exit of the process, when no loop can be relied upon."""

from __future__ import annotations

import socket
import time

from .connection import SLICE, Connection
from .outcome import Result
from .request import Headers


def call(sock: socket.socket, headers: Headers, message: bytes, deadline: float) -> Result:
    """Make one call before `deadline` (of `time.monotonic`).

    Raises:
        OSError: the connection broke, or the deadline passed (`TimeoutError`).
    """
    connection = Connection()
    connection.begin(headers, message)
    while True:
        sock.settimeout(_left(deadline))
        if data := connection.bytes_to_send(SLICE):
            sock.sendall(data)
        elif connection.result is not None:
            return connection.result
        elif received := sock.recv(SLICE):
            connection.receive(received)
        else:
            connection.lost("the server closed the connection")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline passed")
    return left

"""A call over a plain socket, for the exit of the process, when no loop can be relied upon."""

from __future__ import annotations

import socket

from asynctrace.export.blocking import DeadlineSocket

from .connection import SLICE, Connection
from .outcome import Result
from .request import Headers


def call(sock: socket.socket, headers: Headers, message: bytes, deadline: float) -> Result:
    """Make one call before `deadline` (of `time.monotonic`).

    Raises:
        OSError: the connection broke, or the deadline passed (`TimeoutError`).
    """
    timed = DeadlineSocket(sock, deadline)
    connection = Connection()
    connection.begin(headers, message)
    while True:
        if data := connection.bytes_to_send(SLICE):
            timed.sendall(data)
        elif connection.result is not None:
            return connection.result
        elif received := timed.recv(SLICE):
            connection.receive(received)
        else:
            connection.lost("the server closed the connection")

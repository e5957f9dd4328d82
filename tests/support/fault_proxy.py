"""A TCP proxy that goes wrong when it is told to: between a client and a collector that is well.

Plain blocking sockets in threads: nothing of it runs on the event loop of a test.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from enum import Enum
from types import TracebackType
from typing import Self

CHUNK = 4096
SLOW_CHUNK = 64
"""Bytes per hundredth of a second through a throttled link."""


class Fault(Enum):
    NONE = "none"
    REFUSE = "refuse"
    """Nobody listens; connections that exist are closed."""
    BLACK_HOLE = "black hole"
    """Connections are accepted, and nothing comes through in either direction."""
    CUT = "cut"
    """Connections are closed when the first bytes of a request have come through."""
    LOSE_ANSWERS = "lose answers"
    """Requests come through; the connection is closed in place of the answer."""
    RESET = "reset"
    """Connections are reset as soon as something is sent."""
    THROTTLE = "throttle"
    """Six kilobytes per second."""


class FaultProxy:
    """Listens on a port of its own, and forwards to `target` as far as `fault` allows it."""

    def __init__(self, target: int, fault: Fault = Fault.NONE) -> None:
        self._target = target
        self._fault = fault
        self._changed = threading.Condition()
        self._stopped = False
        self._port = 0
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._listen()
        if self._fault is Fault.REFUSE:
            self._refuse()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._refuse()
        for thread in self._threads:
            thread.join(5)

    def set(self, fault: Fault) -> None:
        """From now on, for connections that exist as well."""
        with self._changed:
            before, self._fault = self._fault, fault
            self._changed.notify_all()
        if fault is Fault.REFUSE:
            self._refuse()
        elif before is Fault.REFUSE:
            self._listen()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(64)
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._run(self._accept, listener)

    def _refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            _shut(listener)
            listener.close()
        for connection in list(self._open):
            _shut(connection)

    def _run(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, name="proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = _connect(self._target)
            if server is None:
                client.close()
                continue
            self._open |= {client, server}
            self._run(self._forward, client, server, True)
            self._run(self._forward, server, client, False)

    def _forward(self, source: socket.socket, sink: socket.socket, requests: bool) -> None:
        try:
            while data := source.recv(CHUNK):
                if not self._pass_on(data, source, sink, requests):
                    break
        except OSError:
            pass
        finally:
            for end in (source, sink):
                self._open.discard(end)
                _shut(end)
            source.close()

    def _is_passable(self) -> bool:
        return self._stopped or self._fault is not Fault.BLACK_HOLE

    def _pass_on(
        self, data: bytes, source: socket.socket, sink: socket.socket, requests: bool
    ) -> bool:
        """Whether the connection stays open."""
        match self._fault:
            case Fault.BLACK_HOLE:
                with self._changed:
                    self._changed.wait_for(self._is_passable)
                return not self._stopped and self._pass_on(data, source, sink, requests)
            case Fault.CUT if requests:
                sink.sendall(data[: len(data) // 2])
                return False
            case Fault.LOSE_ANSWERS if not requests:
                return False
            case Fault.RESET:
                client = source if requests else sink
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if requests:  # and nobody else waits for it
                    client.close()
                return False
            case Fault.THROTTLE:
                for start in range(0, len(data), SLOW_CHUNK):
                    sink.sendall(data[start : start + SLOW_CHUNK])
                    time.sleep(0.01)
            case _:
                sink.sendall(data)
        return True


def _connect(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port))
    except OSError:
        return None


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)

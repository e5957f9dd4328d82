"""An HTTP/2 server on a real socket whose every connection does what a function says.

Plain blocking sockets in threads: nothing of it runs on the event loop of a test.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, PingAckReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError

OK = [("grpc-status", "0")]


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came."""

    stream: int
    headers: dict[str, str]
    message: bytes
    """With its prefix."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self.sock = sock
        self.stopping = stopping
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.events: list[Event] = []

    def greet(self) -> None:
        """Send the settings."""
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.sock.sendall(data)

    def receive(self) -> bool:
        """Take what comes next and acknowledge it; False when the client has hung up."""
        data = self.sock.recv(65536)
        events = self.h2.receive_data(data) if data else []
        for event in events:
            if isinstance(event, DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.events += events
        self.flush()
        return bool(data)

    def read_headers(self) -> RequestReceived:
        """Wait for the beginning of a request."""
        while True:
            for event in self.events:
                if isinstance(event, RequestReceived):
                    return event
            self._more()

    def read_call(self) -> Call:
        """Wait for a whole request."""
        body = bytearray()
        start = self.read_headers()
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, DataReceived):
                    body += event.data
                elif isinstance(event, StreamEnded):
                    return Call(start.stream_id, dict(start.headers), bytes(body))
            self._more()

    def wait_for_pong(self) -> None:
        while not any(isinstance(event, PingAckReceived) for event in self.events):
            self._more()

    def wait_for_hang_up(self) -> None:
        while self.receive():
            pass

    def _more(self) -> None:
        if not self.receive():
            raise ConnectionError("the client has hung up")

    # ---- answers

    def answer(
        self,
        call: Call,
        *,
        message: bytes | None = b"",
        trailers: list[tuple[str, str]] = OK,
    ) -> None:
        """An answer: headers, a message unless it is None, trailers."""
        headers = [(":status", "200"), ("content-type", "application/grpc")]
        if message is None:
            self.h2.send_headers(call.stream, headers + trailers, end_stream=True)
        else:
            self.h2.send_headers(call.stream, headers)
            self.h2.send_data(call.stream, prefixed(message))
            self.h2.send_headers(call.stream, trailers, end_stream=True)
        self.flush()


def prefixed(message: bytes) -> bytes:
    """A message as gRPC frames it, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def goaway(last_stream: int, error: int = 0, debug: bytes = b"") -> bytes:
    """A GOAWAY frame; h2 would end the connection if it were to send one."""
    payload = last_stream.to_bytes(4, "big") + error.to_bytes(4, "big") + debug
    return len(payload).to_bytes(3, "big") + b"\x07\0\0\0\0\0" + payload


Behaviour = Callable[[Peer], None]


def serve(peer: Peer) -> None:
    """Take every call."""
    peer.greet()
    go_on(peer)


def go_on(peer: Peer) -> None:
    """Take every call from now on."""
    while True:
        peer.answer(peer.read_call())


def silent(peer: Peer) -> None:
    """Read calls and answer none."""
    peer.greet()
    peer.wait_for_hang_up()


class H2Server:
    """Its connections do what `script` says, one after the other, and the rest `then`."""

    def __init__(
        self,
        *script: Behaviour,
        then: Behaviour = serve,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.connections = 0
        self._script = list(script)
        self._then = then
        self._tls = tls
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._listener.listen()
        self._run(self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _run(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="h2-server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            behaviour = self._script.pop(0) if self._script else self._then
            self._open.add(sock)
            self._run(lambda sock=sock, behaviour=behaviour: self._serve(sock, behaviour))  # type: ignore[misc]

    def _serve(self, sock: socket.socket, behaviour: Behaviour) -> None:
        try:
            if self._tls is not None:
                self._open.discard(sock)
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.add(sock)
            if not self._stopping.is_set():
                behaviour(Peer(sock, self._stopping))
        except (OSError, ProtocolError):
            return
        finally:
            self._open.discard(sock)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # at once, whoever else holds the socket
            sock.close()

"""A collector on a real socket that does what a script says, in a thread of its own.

It is made of plain blocking sockets: nothing of it runs on the event loop of a test, so a
heartbeat there measures the library and not the collector.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from asynctrace.otlp.decode import decode_request
from asynctrace.otlp.json import decode_json
from asynctrace.otlp.records import SpanRecord

SIP = 2**15
"""Bytes that a slow reader takes at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is done with one request; the default is to take it, at once."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    """Seconds before the answer, ended early when the collector stops."""
    silent: bool = False
    """Read the request and never answer."""
    body_hangs: bool = False
    """Answer with the headers and never send the body they announce."""
    reads_slowly: bool = False
    """Read the body a little at a time, and then answer."""
    cut: bool = False
    """Read the request and close the connection without an answer."""
    cut_early: bool = False
    """Close the connection when the headers have been read, in the middle of the body."""
    raw: bytes | None = None
    """Sent instead of an HTTP answer, then the connection is closed."""

    @property
    def takes(self) -> bool:
        """Whether the client may say of this request that it was delivered."""
        whole = not (self.silent or self.body_hangs or self.cut or self.cut_early)
        return whole and self.raw is None and 200 <= self.status < 300


def partial_success(rejected: int, message: str) -> Answer:
    """Takes the request except for some spans of it."""
    partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    response = ExportTraceServiceResponse(partial_success=partial)
    headers = {"Content-Type": "application/x-protobuf"}
    return Answer(headers=headers, body=response.SerializeToString())


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came, body decoded."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    answer: Answer

    @property
    def spans(self) -> list[SpanRecord]:
        if self.headers.get("content-type") == "application/json":
            return decode_json(self.body)
        return decode_request(self.body)


class ScriptedCollector:
    """Answers requests in the order of its script, and the rest with `then`.

    It can be stopped and started again on the same port: connections are reset meanwhile.
    """

    def __init__(
        self, *script: Answer, then: Answer | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._script = list(script)
        self._then = then or Answer()
        self._tls = tls
        self._changed = threading.Condition()
        self._port = 0
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        if self._tls is not None:
            return f"https://localhost:{self._port}"
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def spans(self) -> list[SpanRecord]:
        """The spans of the requests that were taken."""
        return [span for request in self._taken() for span in request.spans]

    @property
    def span_ids(self) -> list[str]:
        return [span.span_id for span in self.spans]

    def _taken(self) -> list[Request]:
        with self._changed:
            return [request for request in self.requests if request.answer.takes]

    def then(self, answer: Answer) -> None:
        """What is done from now on."""
        with self._changed:
            self._script.clear()
            self._then = answer

    def judged(self, request: Request) -> Answer:
        """What is really done with `request`; overridden where that depends on it."""
        return request.answer

    def wait_for_requests(self, number: int, timeout: float = 10.0) -> None:
        """Wait, in a thread, until as many requests have come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= number, timeout):
                raise AssertionError(f"{len(self.requests)} of {number} requests came")

    def wait_for_spans(self, number: int, timeout: float = 10.0) -> list[SpanRecord]:
        """Wait, in a thread, until as many spans have been taken."""
        deadline = time.monotonic() + timeout
        while len(self.spans) < number:
            with self._changed:
                self._changed.wait(0.05)
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(self.spans)} of {number} spans came")
        return self.spans

    # ---- its life

    def start(self) -> None:
        self._stopping.clear()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(64)
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._run(self._accept, listener)

    def stop(self) -> None:
        """Close everything: the port refuses from now on."""
        self._stopping.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self, work: object, sock: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(sock,), name="collector", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._secured(connection)
            with connection, connection.makefile("rb") as stream:
                while self._answer_one(connection, stream):
                    pass
        except OSError:
            return
        finally:
            self._open.discard(connection)

    def _secured(self, connection: socket.socket) -> socket.socket:
        """The same connection by TLS. Raises OSError when the client does not get in."""
        assert self._tls is not None
        self._open.discard(connection)
        secured = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(secured)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._open.discard, secured)
            cleanup.enter_context(secured)
            secured.do_handshake()
            cleanup.pop_all()
        return secured

    def _answer_one(self, connection: socket.socket, stream: object) -> bool:
        """Read one request and do as the script says; whether the connection stays open."""
        head = _read_head(stream)
        if not head:
            return False
        _, path, _ = head[0].split(" ", 2)
        pairs = (line.partition(":") for line in head[1:])
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        answer = self._next_answer()
        if answer.cut_early:
            connection.shutdown(socket.SHUT_RDWR)
            return False
        length = int(headers["content-length"])
        sent = self._read(stream, length, slowly=answer.reads_slowly)
        if len(sent) < length:
            return False  # the client has hung up
        body = _decoded(sent, headers)
        answer = self.judged(Request(path, headers, body, answer))
        with self._changed:
            self.requests.append(Request(path, headers, body, answer))
            self._changed.notify_all()
        if answer.delay:
            self._stopping.wait(answer.delay)
        if answer.silent:
            self._stopping.wait()
        if answer.silent or answer.cut:
            return False
        if answer.raw is not None:
            connection.sendall(answer.raw)
            return False
        lines = [f"{name}: {value}" for name, value in answer.headers.items()]
        length = len(answer.body) + (10 if answer.body_hangs else 0)
        start = f"HTTP/1.1 {answer.status} X\r\nContent-Length: {length}\r\n"
        connection.sendall((start + "".join(f"{x}\r\n" for x in lines) + "\r\n").encode())
        connection.sendall(answer.body)
        if answer.body_hangs:
            self._stopping.wait()
        return not answer.body_hangs

    def _read(self, stream: object, length: int, *, slowly: bool) -> bytes:
        body = bytearray()
        piece = SIP if slowly else length
        while len(body) < length and (
            data := stream.read(min(piece, length - len(body)))  # type: ignore[attr-defined]
        ):
            body += data
            if slowly:
                self._stopping.wait(0.001)
        return bytes(body)

    def _next_answer(self) -> Answer:
        with self._changed:
            return self._script.pop(0) if self._script else self._then


def _read_head(stream: object) -> list[str]:
    """The lines of a head; none when the client has hung up before its end."""
    head: list[str] = []
    while (line := stream.readline()).endswith(b"\n"):  # type: ignore[attr-defined]
        if not line.strip():
            return head
        head.append(line.strip().decode("latin-1"))
    return []


def _decoded(body: bytes, headers: Mapping[str, str]) -> bytes:
    match headers.get("content-encoding"):
        case "gzip":
            return gzip.decompress(body)
        case "deflate":
            return zlib.decompress(body)
        case _:
            return body


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port where nobody listens, and nobody else can: connections are refused."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]

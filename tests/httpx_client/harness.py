"""Clients of both libraries and both colours, a server that misbehaves on demand, and the spans."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Self

import httpx
import httpx2
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from asynctrace.tracing import Tracing
from tests.support.watching import watch

PATIENCE = 10.0


class Recorder(SpanProcessor):
    """Keeps started and ended spans, each in order."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self._begun: list[Any] = []
        self._watched: Tracing | None = None

    def watch(self, tracing: Tracing) -> None:
        """See the spans of `tracing` without being one of its processors."""
        watch(tracing, self)
        self._watched = tracing

    @property
    def started(self) -> list[Any]:
        """The spans that have begun; when watching, those that have ended come first."""
        if self._watched is None:
            return self._begun
        return [*self.spans, *self._watched.open_spans()]

    def on_start(self, span: object, parent_context: object = None) -> None:
        self._begun.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)

    def one(self) -> ReadableSpan:
        """The only span that was started; it has ended."""
        [started] = self.started
        [span] = self.spans
        assert started is span
        return span

    def clear(self) -> None:
        self._begun.clear()
        self.spans.clear()


class Kind:
    """One of the four kinds of client: httpx or httpx2, asynchronous or not."""

    def __init__(self, library: ModuleType, is_async: bool) -> None:
        self.library: Any = library
        self.is_async = is_async

    def __str__(self) -> str:
        return f"{self.library.__name__}-{'async' if self.is_async else 'sync'}"

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Any]:
        """A client, closed at the end."""
        if self.is_async:
            async with self.library.AsyncClient(**options) as client:
                yield client
        else:
            client = self.library.Client(**options)
            try:
                yield client
            finally:
                await asyncio.to_thread(client.close)

    async def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Await `function`, or call it in a thread: the server is on the loop."""
        if self.is_async:
            return await function(*args, **options)
        return await asyncio.to_thread(function, *args, **options)

    def transport(self, respond: Callable[[Any], Any]) -> Any:
        """A transport of the user's own, which hands the request to `respond`."""
        if self.is_async:

            class Custom(self.library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
                async def handle_async_request(self, request: Any) -> Any:
                    return respond(request)

            return Custom()

        class CustomSync(self.library.BaseTransport):  # type: ignore[misc, name-defined]
            def handle_request(self, request: Any) -> Any:
                return respond(request)

        return CustomSync()

    def http_transport(self, **options: Any) -> Any:
        if self.is_async:
            return self.library.AsyncHTTPTransport(**options)
        return self.library.HTTPTransport(**options)

    def app_transport(self) -> Any:
        """The library's transport to an application in the same process."""
        if self.is_async:
            return self.library.ASGITransport(asgi_app)
        return self.library.WSGITransport(wsgi_app)

    def stream(self, *parts: bytes, error: BaseException | None = None) -> Any:
        """A response's stream: parts, and then an error."""
        if self.is_async:

            class Stream(self.library.AsyncByteStream):  # type: ignore[misc, name-defined]
                closed = False

                async def __aiter__(self) -> AsyncIterator[bytes]:
                    for part in parts:
                        yield part
                    if error is not None:
                        raise error

                async def aclose(self) -> None:
                    self.closed = True

            return Stream()

        class SyncStream(self.library.SyncByteStream):  # type: ignore[misc, name-defined]
            closed = False

            def __iter__(self) -> Iterator[bytes]:
                yield from parts
                if error is not None:
                    raise error

            def close(self) -> None:
                self.closed = True

        return SyncStream()


KINDS = [Kind(library, is_async) for library in (httpx, httpx2) for is_async in (True, False)]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers the path's number as status, or raises when it has none."""
    status = int(scope["path"].strip("/"))
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response(f"{int(environ['PATH_INFO'].strip('/'))} Status", [])
    return [b"hello"]


# --- a server ------------------------------------------------------------------------------------

Script = Callable[["Connection"], Awaitable[None]]


class Connection:
    """A request that has been read, and the socket to answer on."""

    def __init__(self, path: str, headers: list[tuple[str, str]], writer: Any) -> None:
        self.path = path
        self.headers = headers
        self._writer = writer

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def abort(self) -> None:
        self._writer.transport.abort()


class Server:
    """Serves one script per path, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[Connection] = []
        self.go_on = asyncio.Event()
        self.arrived = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._unix_server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def listen_at(self, path: str) -> None:
        """Serve at a unix socket, too."""
        self._unix_server = await asyncio.start_unix_server(self._serve, path)

    async def __aexit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.close()
        if self._unix_server is not None:
            self._unix_server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = [
                    (name, value) for name, _, value in (h.partition(": ") for h in head[1:])
                ]
                length = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
                await reader.readexactly(length)
                connection = Connection(head[0].split()[1], headers, writer)
                self.requests.append(connection)
                self.arrived.set()
                await self._answer(connection)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer(self, connection: Connection) -> None:
        match connection.path.partition("?")[0].strip("/").split("/"):
            case ["silent"]:
                await self.go_on.wait()
            case ["drip"]:
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
                await self.go_on.wait()
                await connection.send(b"world")
            case ["cut"]:
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
                connection.abort()
            case ["gzip"]:
                body = gzip.compress(b"x" * 10_000)
                await connection.send(_head(200, body, "Content-Encoding: gzip") + body)
            case ["redirect", path]:
                await connection.send(_head(302, b"", f"Location: /{path}"))
            case ["garbage"]:
                await connection.send(b"this is not HTTP\r\n\r\n")
                connection.abort()
            case [status] | ["http:", "", _, status]:  # in full: it is asked as a proxy
                body = b"hello"
                await connection.send(_head(int(status), body) + body)


def _head(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode()


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


__all__ = ["KINDS", "Kind", "Recorder", "Server", "Tracing", "asgi_app", "until", "wsgi_app"]

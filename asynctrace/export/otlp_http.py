"""OTLP over HTTP, with aiohttp's client. Importing this imports aiohttp.

https://opentelemetry.io/docs/specs/otlp/#otlphttp: what counts as delivered, what may be retried.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import http.client
import socket
import ssl
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp
from yarl import URL

from asynctrace import _threads
from asynctrace.otlp import decode, json

from . import blocking
from .addresses import without_look_up
from .contracts import Batch, Delivered, Outcome, Undelivered
from .credentials import NO_CREDENTIALS, Credentials, Provide
from .joining import request_body
from .resolver import DaemonResolver
from .retry import parse_retry_after
from .tls import client_context

RETRYABLE = frozenset({429, 502, 503, 504})
TOO_LARGE = 413
MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read; it holds a short message or nothing."""
SLICE = 256 * 1024
"""Bytes of a request that are written at once."""
PROTOBUF = "application/x-protobuf"
JSON = "application/json"
UNAUTHORIZED = "http_401"
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
"""The pipeline keeps the deadlines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where spans go and how."""

    url: str
    headers: Mapping[str, str]
    json: bool = False
    """OTLP as JSON; as binary protobuf otherwise."""
    compression: str = "none"
    """`none`, `gzip` or `deflate`."""
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS settings, or None for plain HTTP. Reads files: not on the event loop.

        Raises:
            OSError: a file cannot be read, or does not hold what it should (`ssl.SSLError`).
        """
        if urlsplit(self.url).scheme != "https":
            return None
        return client_context(
            certificate=self.certificate,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
        )

    @property
    def has_certificates(self) -> bool:
        """Whether there is more to trust or to show than the system's certificates."""
        return bool(self.certificate or self.client_certificate)

    @property
    def needs_work(self) -> bool:
        """Whether `encode` does enough to be kept off the event loop."""
        return self.json or self.compression != "none"

    def encode(self, body: bytes) -> bytes:
        """The body of a request, from the binary protobuf of a batch."""
        if self.json:
            body = json.encode_json(decode.decode_request(body))
        if self.compression == "gzip":
            return gzip.compress(body, compresslevel=6, mtime=0)
        if self.compression == "deflate":
            return zlib.compress(body)
        return body

    def request_headers(self) -> dict[str, str]:
        """The headers of every request, however it is sent; names in lower case."""
        headers = {"user-agent": "asynctrace", **_credentials(urlsplit(self.url))}
        headers |= {name.lower(): value for name, value in self.headers.items()}
        headers["content-type"] = JSON if self.json else PROTOBUF
        if self.compression != "none":
            headers["content-encoding"] = self.compression
        return headers

    @property
    def target(self) -> URL:
        """The URL without credentials: these are a header."""
        return URL(self.url).with_user(None)


def _credentials(url: SplitResult) -> dict[str, str]:
    if url.username is None:
        return {}
    plain = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"authorization": f"Basic {base64.b64encode(plain.encode()).decode()}"}


def judge(status: int, content_type: str, retry_after: float | None, body: bytes) -> Outcome:
    """What an answer means: a pure reading of the OTLP specification.

    A 2xx whose body cannot be read is a delivery: the receiver has said yes, and sending again
    would deliver twice.
    """
    is_json = content_type.partition(";")[0].strip().lower() == JSON
    if 200 <= status < 300:
        try:
            reader = json.decode_response if is_json else decode.decode_response
            partial = reader(body)
        except decode.DecodeError:
            return Delivered()
        return Delivered(partial.rejected, partial.message)
    return Undelivered(
        f"http_{status}",
        _message(is_json, body),
        retryable=status in RETRYABLE,
        retry_after=retry_after if status in RETRYABLE else None,
        too_large=status == TOO_LARGE,
    )


def _message(is_json: bool, body: bytes) -> str:
    """The server's own words: the Status message of OTLP, else the beginning of a text."""
    try:
        message = (json.decode_status if is_json else decode.decode_status)(body).message
    except decode.DecodeError:
        message = ""
    return message or body[:200].decode("utf-8", "replace").strip()


class OtlpHttpExporter:
    """Posts batches. One session per host loop, made on first use."""

    needs_spans = False

    def __init__(
        self,
        endpoint: Endpoint,
        tls: ssl.SSLContext | None,
        *,
        name: str = "otlp",
        credentials: Provide | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        """`session` is used on the loop that runs now, as long as it is open, and never closed."""
        self.name = name
        self._endpoint = endpoint
        self._tls = tls
        self._headers = endpoint.request_headers()
        self._url = endpoint.target
        self._resolver = DaemonResolver()
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._foreign: list[aiohttp.ClientSession] = []
        self._credentials = (
            None if credentials is None else Credentials(credentials, refused=UNAUTHORIZED)
        )
        self._lent = None if session is None else (asyncio.get_running_loop(), session)

    @classmethod
    async def create(
        cls,
        endpoint: Endpoint,
        *,
        name: str = "otlp",
        credentials: Provide | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> OtlpHttpExporter:
        """Make one; certificates are read in a thread.

        Raises:
            OSError: a certificate or key cannot be used.
        """
        tls = (
            await _threads.call(endpoint.tls_context) if endpoint.url.startswith("https") else None
        )
        made = cls(endpoint, tls, name=name, credentials=credentials, session=session)
        made._resolver.learn(made._url.raw_host or "", made._url.port or 0)
        return made

    @property
    def component_type(self) -> str:
        """What OpenTelemetry's conventions call it."""
        return f"otlp_http{'_json' if self._endpoint.json else ''}_span_exporter"

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        """Post one batch; the pipeline keeps the deadline by cancelling."""
        endpoint = self._endpoint
        body = await request_body(batch, endpoint.encode, costly=endpoint.needs_work)
        try:
            if self._credentials is None:
                return await self._post(body, {})
            return await self._credentials.send_with(partial(self._post, body))
        except (aiohttp.ClientError, OSError) as error:
            return Undelivered("unreachable", _describe(error), retryable=True)

    async def _post(self, body: bytes, credentials: Mapping[str, str]) -> Outcome:
        headers = {**self._headers, **credentials}
        data: bytes | _Slices = body
        if len(body) > SLICE:
            data = _Slices(body)
            headers["content-length"] = str(len(body))
        async with self._session_here().post(
            self._url,
            data=data,
            headers=headers,
            # Said for each request, because a session of the user's may have other defaults.
            allow_redirects=False,
            raise_for_status=False,
            timeout=_NO_TIMEOUT,
            ssl=self._tls if self._tls is not None and self._endpoint.has_certificates else True,
        ) as response:
            return judge(
                response.status,
                response.headers.get("Content-Type", ""),
                parse_retry_after(response.headers.get("Retry-After"), now=time.time()),
                await _read_up_to(response.content, MAX_ANSWER),
            )

    def _session_here(self) -> aiohttp.ClientSession:
        """The session of the running loop: the user's, or else one of our own."""
        loop = asyncio.get_running_loop()
        if self._lent is not None:
            home, session = self._lent
            if home is loop and not session.closed:
                return session
        if self._loop is not loop:
            self._leave_session()  # of a loop that stands still, or was closed
            self._loop = loop
        if self._session is None:
            self._session = self._new_session()
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver, ssl=self._tls if self._tls is not None else True, limit=4
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._loop is not asyncio.get_running_loop():
            return
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def shutdown(self) -> None:
        """Nothing is left after `close`."""

    def after_fork(self) -> None:
        # Closing would unregister the parent's sockets from the event poll that both processes
        # share, and so would the garbage collector.
        self._leave_session()
        if self._lent is not None:
            self._foreign.append(self._lent[1])
            self._lent = None

    def _leave_session(self) -> None:
        """Keep, without closing it, a session that only another loop or process could close."""
        if self._session is not None:
            self._foreign.append(self._session)
            self._session = None

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        """One request by `http.client`, which is over at the deadline.

        The name is not looked up anew, and credentials are not asked for: neither can be cut
        short, and the process would hang.
        """
        host = self._url.raw_host or ""
        addresses = without_look_up(host, self._resolver.last_addresses)
        if not addresses:
            return Undelivered("exit", f"{host} was never resolved")
        known = self._credentials.headers if self._credentials is not None else {}
        if known is None:
            return Undelivered("exit", NO_CREDENTIALS)
        try:
            sock = self._connect(addresses, deadline)
            body = self._endpoint.encode(batch.to_otlp())
            # In bytes, as aiohttp writes them: `http.client` would write Latin-1, where it can.
            headers = {name: text.encode() for name, text in {**self._headers, **known}.items()}
            headers.setdefault("host", _host_header(self._url).encode())
            with contextlib.closing(sock):
                connection = http.client.HTTPConnection(host)
                connection.sock = blocking.DeadlineSocket(sock, deadline).as_socket()
                connection.request("POST", self._url.raw_path_qs, body, headers)
                answer = connection.getresponse()
                return judge(
                    answer.status,
                    answer.getheader("Content-Type", ""),
                    None,
                    answer.read(MAX_ANSWER),
                )
        except (OSError, http.client.HTTPException) as error:
            return Undelivered("unreachable", _describe(error), retryable=True)

    def _connect(self, addresses: Sequence[str], deadline: float) -> socket.socket:
        """A connection to an address that is known; the certificate is checked for the name."""
        sock = blocking.connect(addresses, self._url.port or 0, deadline)
        if self._tls is None:
            return sock
        with contextlib.ExitStack() as on_error:
            on_error.callback(sock.close)
            sock.settimeout(blocking.time_left(deadline))
            secure = self._tls.wrap_socket(sock, server_hostname=self._url.raw_host)
            on_error.pop_all()
        return secure

    def __repr__(self) -> str:
        target = urlsplit(self._endpoint.url)
        state = "connected" if self._session is not None else "idle"
        return f"<OtlpHttpExporter {target.scheme}://{target.netloc.rpartition('@')[2]} {state}>"


def _host_header(url: URL) -> str:
    host = url.raw_host or ""
    host = f"[{host}]" if ":" in host else host
    return host if url.is_default_port() else f"{host}:{url.port}"


class _Slices:
    """A large body in pieces, between which the loop may do other work.

    Not a generator: one that is given up half-way needs a task to be closed.
    """

    def __init__(self, body: bytes) -> None:
        self._rest = memoryview(body)

    def __aiter__(self) -> _Slices:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        piece, self._rest = self._rest[:SLICE], self._rest[SLICE:]
        await asyncio.sleep(0)
        return bytes(piece)


async def _read_up_to(stream: aiohttp.StreamReader, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while size < limit and (chunk := await stream.read(limit - size)):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _describe(error: BaseException) -> str:
    # aiohttp's own words say "ssl:default" also where there is no TLS. Of a certificate they are
    # right; and there its older versions have no `os_error`.
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(
        error, aiohttp.ClientConnectorCertificateError
    ):
        reason = error.os_error.strerror or error.os_error
        return f"cannot connect to {error.host}:{error.port}: {reason}"
    return str(error) or type(error).__name__

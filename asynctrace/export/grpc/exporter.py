"""OTLP over gRPC: the exporter."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from asynctrace import _threads
from asynctrace.export.contracts import Batch, Outcome, Undelivered
from asynctrace.export.credentials import NO_CREDENTIALS, Credentials, Provide
from asynctrace.export.joining import request_body
from asynctrace.export.tls import client_context

from . import blocking
from .dial import ALPN, Dialer
from .link import Link
from .outcome import Lost, Result, judge
from .request import Endpoint, Headers, timeout

UNAUTHENTICATED: Final = "grpc_unauthenticated"


class OtlpGrpcExporter:
    """Calls `TraceService/Export`. One connection per host loop, made when it is needed."""

    needs_spans = False
    component_type = "otlp_grpc_span_exporter"

    def __init__(
        self,
        endpoint: Endpoint,
        tls: ssl.SSLContext | None,
        *,
        name: str = "otlp",
        credentials: Provide | None = None,
    ) -> None:
        self.name = name
        self._endpoint = endpoint
        self._headers = endpoint.call_headers()
        self._credentials = (
            None
            if credentials is None
            else Credentials(credentials, refused=UNAUTHENTICATED, check=endpoint.check_headers)
        )
        self._dialer = Dialer(endpoint, tls)
        self._link: Link | None = None
        self._foreign: list[Link] = []

    @classmethod
    async def create(
        cls, endpoint: Endpoint, *, name: str = "otlp", credentials: Provide | None = None
    ) -> OtlpGrpcExporter:
        """Make one; certificates are read in a thread.

        Raises:
            OSError: a certificate or key cannot be used.
            ValueError: gRPC does not allow one of the headers.
        """
        tls = await _threads.call(tls_context, endpoint) if endpoint.secure else None
        made = cls(endpoint, tls, name=name, credentials=credentials)
        made._dialer.learn()
        return made

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        """Make one call; the pipeline keeps the deadline by cancelling, the server is told it."""
        endpoint = self._endpoint
        message = await request_body(batch, endpoint.message, costly=endpoint.compresses)
        try:
            if self._credentials is None:
                return await self._call(message, deadline, self._headers)
            return await self._credentials.send_with(partial(self._call_with, message, deadline))
        except OSError as error:
            return _unreachable(error, retryable=True)

    async def _call_with(
        self, message: bytes, deadline: float, credentials: Mapping[str, str]
    ) -> Outcome:
        return await self._call(message, deadline, self._endpoint.call_headers(credentials))

    async def _call(self, message: bytes, deadline: float, headers: Headers) -> Outcome:
        result = await self._call_once(message, deadline, headers)
        if isinstance(result, Lost) and result.unprocessed:
            # The server was leaving, as it does after its maximum connection age; that is not a
            # failure, and it has not looked at the call: another connection takes it at once.
            result = await self._call_once(message, deadline, headers)
        return judge(result)

    async def _call_once(self, message: bytes, deadline: float, headers: Headers) -> Result:
        link = await self._link_here(deadline)
        try:
            return await link.call(_until(deadline, headers), message)
        except BaseException:
            # The call was cut at its deadline: perhaps the connection is dead, and nobody told us.
            link.abort()
            raise

    async def _link_here(self, deadline: float) -> Link:
        """The connection of the running loop."""
        if self._link is not None and self._link.loop is not asyncio.get_running_loop():
            self._leave_link()  # of a loop that stands still, or was closed
        if self._link is None or not self._link.usable:
            self._link = None
            self._link = await self._dialer.connect(deadline)
        return self._link

    async def close(self) -> None:
        link = self._link
        if link is not None and link.loop is asyncio.get_running_loop():
            self._link = None
            await link.close()

    async def shutdown(self) -> None:
        """Nothing is left after `close`."""

    def after_fork(self) -> None:
        # Closing would unregister the parent's socket from the event poll that both processes
        # share, and so would the garbage collector.
        self._leave_link()
        self._dialer.after_fork()

    def _leave_link(self) -> None:
        """Keep, without closing it, a connection that only another loop or process could close."""
        if self._link is not None:
            self._foreign.append(self._link)
            self._link = None

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        """One call on a connection of its own, over a plain socket with time-outs.

        Credentials are not asked for: that could not be cut short, and the process would hang.
        """
        headers = self._headers
        if self._credentials is not None:
            if self._credentials.headers is None:
                return Undelivered("exit", NO_CREDENTIALS)
            headers = self._endpoint.call_headers(self._credentials.headers)
        try:
            message = self._endpoint.message(batch.to_otlp())
            with contextlib.closing(self._dialer.connect_blocking(deadline)) as sock:
                return judge(blocking.call(sock, _until(deadline, headers), message, deadline))
        except OSError as error:
            return _unreachable(error)

    def __repr__(self) -> str:
        scheme = "https" if self._endpoint.secure else "http"
        state = "connected" if self._link is not None and self._link.usable else "idle"
        return f"<OtlpGrpcExporter {scheme}://{self._endpoint.authority} {state}>"


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """The TLS settings of an endpoint. Reads files: not on the event loop.

    Raises:
        OSError: a file cannot be read, or does not hold what it should (`ssl.SSLError`).
    """
    context = client_context(
        certificate=endpoint.certificate,
        client_certificate=endpoint.client_certificate,
        client_key=endpoint.client_key,
    )
    context.set_alpn_protocols([ALPN])
    return context


def _until(deadline: float, headers: Headers) -> Headers:
    return [*headers, timeout(deadline - time.monotonic())]


def _unreachable(error: OSError, *, retryable: bool = False) -> Undelivered:
    reason = "timeout" if isinstance(error, TimeoutError) else "unreachable"
    return Undelivered(reason, str(error) or type(error).__name__, retryable=retryable)

"""From a name to a connection: look-up, TCP, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Final

from asynctrace import _threads
from asynctrace.export import blocking
from asynctrace.export.addresses import is_literal, without_look_up

from .link import Link
from .request import Endpoint

ALPN: Final = "h2"


class Dialer:
    """Connects to one server, by the address that worked last or else by all it has."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None) -> None:
        self._host, self._port = endpoint.host, endpoint.port
        self._tls = tls
        self._good: str | None = None
        self._found: Sequence[str] = ()
        self._looking_up = False

    async def connect(self, deadline: float) -> Link:
        """A connection to the first address that answers.

        All but the last get an equal share of the time until `deadline` (of `time.monotonic`);
        whoever calls keeps the deadline itself.

        Raises:
            OSError: the name has no address, nobody listens there, or no HTTP/2 over TLS
                (`ssl.SSLError`); the error of the last address.
        """
        addresses = await self._addresses()
        for number, address in enumerate(addresses, 1):
            last = number == len(addresses)
            share = (deadline - time.monotonic()) / (len(addresses) - number + 1)
            try:
                async with asyncio.timeout(None if last else share):
                    link = await self._connect_to(address)
            except OSError:
                if last:
                    raise
            else:
                self._good = address
                return link
        raise OSError(f"{self._host} has no address")

    async def _addresses(self) -> list[str]:
        """All addresses, the one that worked last first."""
        if is_literal(self._host):
            return [self._host]
        try:
            found = dict.fromkeys(await self._look_up())
        except RuntimeError:  # no thread was to be had
            if not self._at_once:
                raise
            return list(self._at_once)
        return sorted(found, key=lambda address: address != self._good)

    @property
    def _at_once(self) -> Sequence[str]:
        """The addresses to be had without a look-up: the one that worked, or else those found."""
        return without_look_up(self._host, [self._good] if self._good else self._found)

    def learn(self) -> None:
        """Look the name up for later, in a thread; nobody waits for it, and it may fail."""
        if self._at_once:
            return

        def look_up() -> None:
            with contextlib.suppress(OSError):  # `connect` finds that out itself, and tells it
                self._getaddrinfo()

        with contextlib.suppress(RuntimeError):
            _threads.start(look_up)

    async def _look_up(self) -> Sequence[str]:
        """In a daemon thread, and never in two: a resolver that hangs would collect them."""
        if self._looking_up:
            raise OSError(f"the last look-up of {self._host} has not returned")
        self._looking_up = True
        try:
            return await _threads.call(self._look_up_once)
        except RuntimeError:  # no thread was to be had
            self._looking_up = False
            raise

    def _look_up_once(self) -> Sequence[str]:
        try:
            return self._getaddrinfo()
        finally:
            self._looking_up = False

    def _getaddrinfo(self) -> Sequence[str]:
        found = socket.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        self._found = [str(address[0]) for *_, address in found]
        return self._found

    async def _connect_to(self, address: str) -> Link:
        loop = asyncio.get_running_loop()
        if self._tls is None:
            _, link = await loop.create_connection(Link, address, self._port)
            return link
        try:
            transport, link = await loop.create_connection(
                Link, address, self._port, ssl=self._tls, server_hostname=self._host
            )
        except ssl.SSLError as error:
            raise _explained(error) from error
        try:
            _check_protocol(transport.get_extra_info("ssl_object"))
        except OSError:
            link.abort()
            raise
        return link

    def connect_blocking(self, deadline: float) -> socket.socket:
        """A connected socket, without a look-up: that cannot be cut short, and the exit of the
        process would hang.

        Raises:
            OSError: the address is not known, or as `connect`.
        """
        if not self._at_once:
            raise OSError(f"{self._host} was never reached")
        with contextlib.ExitStack() as on_error:
            sock = blocking.connect(self._at_once, self._port, deadline)
            on_error.callback(sock.close)
            if self._tls is not None:
                sock.settimeout(blocking.time_left(deadline))
                wrapped = self._tls.wrap_socket(sock, server_hostname=self._host)
                on_error.callback(wrapped.close)
                _check_protocol(wrapped)
                sock = wrapped
            on_error.pop_all()
        return sock

    def after_fork(self) -> None:
        self._looking_up = False  # that thread is the parent's

    def __repr__(self) -> str:
        return f"<Dialer {self._host}:{self._port}{' TLS' if self._tls else ''}>"


def _explained(error: ssl.SSLError) -> OSError:
    if error.reason == "WRONG_VERSION_NUMBER":
        return OSError("the server does not speak TLS: the endpoint begins with http://")
    return error


def _check_protocol(tls: ssl.SSLObject | ssl.SSLSocket) -> None:
    """RFC 9113, section 3.2: over TLS, HTTP/2 is spoken only after both have agreed on it."""
    if tls.selected_alpn_protocol() != ALPN:
        raise OSError("the server does not offer HTTP/2 over TLS (ALPN)")

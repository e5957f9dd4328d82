"""A connection on the event loop: an asyncio protocol around `Connection`.

A protocol and not a pair of streams, because between two calls nobody would read from those: here
the server's PINGs are answered and its GOAWAY is heard at any time, without a task.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from .connection import SLICE, Connection
from .outcome import Result
from .request import Headers

READ: Final = 4096
"""Bytes that are read at once. Answers are short, and small frames are work: asyncio's own 256 KiB
of them would hold the loop for half a second."""
FAREWELL: Final = 0.05
"""Seconds that a polite end may take."""


class Link(asyncio.BufferedProtocol):
    """One connection. Calls follow one another; each awaits its result."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._connection = Connection()
        self._transport: asyncio.Transport  # set by asyncio, before anything else happens
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._result: asyncio.Future[Result] = self.loop.create_future()
        self._paused = False  # by the transport, whose buffer is full
        self._going_on = False  # a next step is scheduled
        self._buffer = memoryview(bytearray(READ))

    async def call(self, headers: Headers, message: bytes) -> Result:
        """Make one call and wait for what it comes to.

        Cancellation leaves the call open: the connection is then only good to be aborted.
        """
        self._result = self.loop.create_future()
        self._connection.begin(headers, message)
        self._advance()
        return await self._result

    @property
    def usable(self) -> bool:
        """Whether a call may begin."""
        return self._connection.usable

    async def close(self) -> None:
        """Say goodbye and wait for the end, which cancellation or a slow server make abrupt."""
        if not self._transport.is_closing():
            self._connection.close()
            self._transport.write(self._connection.bytes_to_send(0))
            self._transport.close()
        try:
            async with asyncio.timeout(FAREWELL):
                await asyncio.shield(self._closed)
        except TimeoutError:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Cut the connection, at once."""
        self._connection.lost("the connection was cut")
        # A closed loop has lost its connections already, and refuses to be told.
        if not self.loop.is_closed():
            self._transport.abort()

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Not a bytearray: asyncio's TLS reads into slices of this, and those would be copies.
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.receive(bytes(self._buffer[:nbytes]))
        self._advance()

    def eof_received(self) -> None:
        self._connection.lost("the server closed the connection")
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost(f"the connection broke: {exc}" if exc else "the connection closed")
        self._settle()
        self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._advance()

    # ---- after each of these

    def _advance(self) -> None:
        """Send what may be sent, tell the caller of a result, hang up when all is over."""
        transport, connection = self._transport, self._connection
        if transport.is_closing():
            self._settle()
            return
        data = connection.bytes_to_send(0 if self._paused else SLICE)
        if data:
            transport.write(data)
        if not connection.in_call:
            self._settle()
            if not connection.usable:
                transport.abort()
        elif connection.has_more and not self._paused and not self._going_on:
            self._going_on = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        self._advance()

    def _settle(self) -> None:
        if self._connection.result is not None and not self._result.done():
            self._result.set_result(self._connection.result)

    def __repr__(self) -> str:
        return f"<Link {self._connection!r}>"

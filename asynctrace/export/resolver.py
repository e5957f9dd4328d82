"""Name resolution that holds up nobody: in daemon threads, and remembered for the exit."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from asynctrace import _threads


class DaemonResolver(AbstractResolver):
    """`getaddrinfo` in a daemon thread.

    aiohttp's own resolver uses the loop's default executor, whose threads `asyncio.run` and the
    interpreter wait for: a look-up that hangs would hold up the exit of the process.
    """

    def __init__(self) -> None:
        self.last_address: str | None = None
        """The newest answer, for the exit, when looking up could hang and cannot be cut."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of `host`.

        Raises:
            OSError: it has none, or no resolver answers.
        """
        found = await _threads.call(
            socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG
        )
        results: list[ResolveResult] = []
        for found_family, _, proto, _, address in found:
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=int(address[1]),
                    family=found_family,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if results:
            self.last_address = results[0]["host"]
        return results

    async def close(self) -> None:
        """Nothing is held."""

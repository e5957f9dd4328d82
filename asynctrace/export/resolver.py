"""Name resolution that holds up nobody: in daemon threads, and remembered for the exit."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult

from asynctrace import _threads

from .addresses import without_look_up


class DaemonResolver(AbstractResolver):
    """`getaddrinfo` in a daemon thread.

    aiohttp's own resolver uses the loop's default executor, whose threads `asyncio.run` and the
    interpreter wait for: a look-up that hangs would hold up the exit of the process.
    """

    def __init__(self) -> None:
        self.last_addresses: Sequence[str] = ()
        """The newest answer, for when looking up is impossible, or could hang at the exit."""

    def learn(self, host: str, port: int) -> None:
        """Look `host` up for later, in a thread; nobody waits for it, and it may fail."""

        def look_up() -> None:
            try:
                found = _look_up(host, port, socket.AF_UNSPEC)
            except OSError:
                return  # `resolve` finds that out itself, and tells it
            if not self.last_addresses:
                self._remember(found)

        if not without_look_up(host, self.last_addresses):
            try:
                _threads.start(look_up)
            except RuntimeError:
                return

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of `host`; where no thread can be started, those that are known.

        Raises:
            OSError: it has none, or no resolver answers.
            RuntimeError: no thread can be started, and none are known.
        """
        try:
            found = await _threads.call(_look_up, host, port, family)
        except RuntimeError:
            known = without_look_up(host, self.last_addresses)
            if not known:
                raise
            return [_result(host, address, port) for address in known]
        self._remember(found)
        return found

    def _remember(self, found: Sequence[ResolveResult]) -> None:
        if found:
            self.last_addresses = [result["host"] for result in found]

    async def close(self) -> None:
        """Nothing is held."""


def _look_up(host: str, port: int, family: int) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    return [_result(host, str(address[0]), int(address[1])) for *_, address in found]


def _result(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )

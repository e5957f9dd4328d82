"""Where the time of an exchange went, by httpx's public `trace` extension.

============  =====================================================================================
pool_wait     until the pool had a connection, or began to make one
connect       name look-up and TCP (or unix socket), of a new connection
tls           its TLS handshake
send          the request's headers and body
wait          from the last byte sent to the response's headers
receive       the body, from headers to its end
============  =====================================================================================

Each becomes an attribute, `asynctrace.http.phase.connect`, in seconds. What did not happen (a
connection that was used again has no connect) makes none.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from asynctrace import semconv

if TYPE_CHECKING:
    import httpx

# By the event's name without what precedes it, the protocol or the proxy.
_PHASES = {
    "connect_tcp": "connect",
    "connect_unix_socket": "connect",
    "start_tls": "tls",
    "send_request_headers": "send",
    "send_request_body": "send",
    "receive_response_headers": "wait",
    "receive_response_body": "receive",
}


class Phases:
    """Listens to the events of one exchange, and passes them on to the caller's own listener."""

    __slots__ = ("_begun", "_start", "seconds", "theirs")

    def __init__(self, theirs: Callable[[str, Any], Any] | None) -> None:
        self.theirs = theirs
        self._start: float | None = perf_counter()
        self._begun: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def note(self, event: str) -> None:
        """An event of httpcore's, `http11.send_request_headers.started`."""
        now = perf_counter()
        name, _, state = event.rpartition(".")
        name = name.rpartition(".")[2]
        if self._start is not None:
            self.seconds["pool_wait"] = now - self._start
            self._start = None
        phase = _PHASES.get(name)
        if phase is None:
            return
        if state == "started":
            self._begun[name] = now
        elif (begun := self._begun.pop(name, None)) is not None:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + now - begun

    def attributes(self) -> semconv.Attributes:
        """What has been measured so far. What is still under way counts until now."""
        now = perf_counter()
        seconds = dict(self.seconds)
        for name, begun in self._begun.items():
            phase = _PHASES[name]
            seconds[phase] = seconds.get(phase, 0.0) + now - begun
        return {semconv.HTTP_PHASES[phase]: taken for phase, taken in seconds.items()}

    def __repr__(self) -> str:
        return f"Phases({', '.join(self.seconds)})"


def listen(sent: httpx.Request, phases: Phases, *, is_async: bool) -> None:
    """Let `sent`, a copy of ours, report to `phases`."""
    listener = _async_listener(phases) if is_async else _listener(phases)
    sent.extensions = {**sent.extensions, "trace": listener}


def _listener(phases: Phases) -> Callable[[str, Any], Any]:
    """What a synchronous transport calls. The caller's own is called in our place, as it were."""

    def note(event: str, info: Any) -> Any:
        phases.note(event)
        return None if phases.theirs is None else phases.theirs(event, info)

    return note


def _async_listener(phases: Phases) -> Callable[[str, Any], Any]:
    """What an asynchronous transport calls: it wants a coroutine."""

    async def note(event: str, info: Any) -> None:
        phases.note(event)
        if phases.theirs is not None:
            await phases.theirs(event, info)

    return note

"""Headers that come from a function of the user's, such as a token that is renewed now and then."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from opentelemetry.instrumentation.utils import suppress_instrumentation

from asynctrace import _threads
from asynctrace.config import checks

from .contracts import Outcome, Undelivered

Provide: TypeAlias = Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]
NO_CREDENTIALS: Final = "no credentials are known; to ask for them may take long"
"""At the exit of the process, where nothing that cannot be cut short is begun."""
Send: TypeAlias = Callable[[Mapping[str, str]], Awaitable[Outcome]]


class CredentialsError(Exception):
    """The function failed, or returned what cannot be sent."""


class Credentials:
    """What the function returned last, kept until somebody is told that it is no good."""

    __slots__ = ("_check", "_provide", "_refused", "headers")

    def __init__(
        self,
        provide: Provide,
        *,
        refused: str,
        check: Callable[[object], Mapping[str, str]] = checks.headers,
    ) -> None:
        """`refused` is the reason of a failure that asks for other credentials; `check` raises
        ValueError for headers that the protocol cannot send."""
        self._provide = provide
        self._refused = refused
        self._check = check
        self.headers: Mapping[str, str] | None = None

    async def send_with(self, send: Send) -> Outcome:
        """Send with the headers that are known, and once more with new ones when refused.

        Raises whatever `send` raises.
        """
        try:
            outcome = await send(await self._get())
            if isinstance(outcome, Undelivered) and outcome.reason == self._refused:
                outcome = await send(await self._renew())
        except CredentialsError as error:
            return Undelivered("credentials", str(error), retryable=True)
        return outcome

    async def _get(self) -> Mapping[str, str]:
        """The headers; asks for them the first time."""
        return await self._renew() if self.headers is None else self.headers

    async def _renew(self) -> Mapping[str, str]:
        """Ask for new ones. A function that is not async is called in a thread: it may block."""
        self.headers = None
        try:
            if _is_async(self._provide):
                given = self._provide()
            else:
                given = await _threads.call(self._quietly)
            if inspect.isawaitable(given):
                given = await given
            self.headers = self._check(given)
        except Exception as error:
            raise CredentialsError(f"credentials: {error!r}") from error
        return self.headers

    def _quietly(self) -> Mapping[str, str] | Awaitable[Mapping[str, str]]:
        with suppress_instrumentation():  # what it asks for a token must not become spans
            return self._provide()

    def __repr__(self) -> str:
        return f"<Credentials {'known' if self.headers is not None else 'not known'}>"


def _is_async(function: Provide) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
    )

"""Headers that come from a function of the user's, such as a token that is renewed now and then."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from opentelemetry.instrumentation.utils import suppress_instrumentation

from asynctrace import _threads
from asynctrace.config import checks

Provide: TypeAlias = Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]


class CredentialsError(Exception):
    """The function failed, or returned what cannot be sent."""


class Credentials:
    """What the function returned last, kept until somebody is told that it is no good."""

    __slots__ = ("_provide", "headers")

    def __init__(self, provide: Provide) -> None:
        self._provide = provide
        self.headers: Mapping[str, str] | None = None

    async def get(self) -> Mapping[str, str]:
        """The headers; asks for them the first time.

        Raises:
            CredentialsError: there are none.
        """
        return await self.renew() if self.headers is None else self.headers

    async def renew(self) -> Mapping[str, str]:
        """Ask for new ones. A function that is not async is called in a thread: it may block.

        Raises:
            CredentialsError: there are none.
        """
        self.headers = None
        try:
            if _is_async(self._provide):
                given = self._provide()
            else:
                given = await _threads.call(self._quietly)
            if inspect.isawaitable(given):
                given = await given
            self.headers = checks.headers(given)
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

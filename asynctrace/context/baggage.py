"""``baggage()``: names and values that travel with the trace; and their copies on spans."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import ClassVar

from opentelemetry import baggage as otel_baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor

from asynctrace.context.current import ContextToken, attach_context, detach
from asynctrace.propagation import sendable_baggage

_logger = logging.getLogger("asynctrace")


class BaggageScope:
    """What :func:`baggage` returns: ``with`` or ``async with`` it, once."""

    __slots__ = ("_entries", "_token")

    _told: ClassVar[bool] = False

    def __init__(self, entries: Mapping[str, str]) -> None:
        self._entries = entries
        self._token: ContextToken | None = None

    def __enter__(self) -> None:
        context = otel_context.get_current()
        together = {**otel_baggage.get_all(context), **self._entries}
        room_for_all = sendable_baggage(together).keys() == together.keys()
        for name, value in self._entries.items():
            if room_for_all or _has_room(name, value, context):
                context = otel_baggage.set_baggage(name, value, context)
            else:
                self._refuse(name)
        self._token = attach_context(context)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            detach(token)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, error, traceback)

    @classmethod
    def _refuse(cls, name: str) -> None:
        if not cls._told:
            cls._told = True
            _logger.warning(
                "The baggage entry %.100r cannot be sent and is left out. Hint: a name is a token "
                "without spaces, and all entries together are at most 64 and 8192 bytes. (This is "
                "said once.)",
                name,
            )

    def __repr__(self) -> str:
        state = "entered" if self._token is not None else "not entered"
        return f"<baggage scope of {', '.join(self._entries)}, {state}>"


def _has_room(name: str, value: str, context: Context) -> bool:
    """Whether the entry can be sent along with the others in `context`."""
    # The last in line, also where the name is not new: the others keep their room.
    others = {key: old for key, old in otel_baggage.get_all(context).items() if key != name}
    return name in sendable_baggage({**others, name: value})


def baggage(entries: Mapping[str, str] | None = None, /, **more: str) -> BaggageScope:
    """Names and values that travel with the trace from here on, to every service it reaches::

        with asynctrace.baggage({"user.id": "7"}, tenant="acme"):
            ...

    They are added to those of before, and hold inside of the block: in its tasks and threads, in
    the messages and requests that it sends. Everybody who gets those can read them, so secrets do
    not belong there. What the limits of W3C Baggage do not admit (64 entries, 8192 bytes, names
    that are tokens) is left out, and what was there before stays, under the same name too; a log
    line says so, once.

    ``init(baggage_attributes=["user.id"])`` copies entries to the attributes of spans.
    """
    given = {**(entries or {}), **more}
    return BaggageScope({name: str(value) for name, value in given.items()})


class BaggageAttributes(SpanProcessor):
    """Copies the baggage entries of these names to the attributes of each span that starts."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        entries = otel_baggage.get_all(parent_context)
        if entries:
            for name in self._names:
                if name in entries:
                    span.set_attribute(name, str(entries[name]))

    def __repr__(self) -> str:
        return f"BaggageAttributes({', '.join(self._names)})"

"""One request on its way out: from the handler's response or error to the end of its span.

Most requests never get here: a recorded one that is answered by bytes is ended in line, by the
middleware, and one that is not recorded has nothing to tell.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp import web
from opentelemetry.trace import Span

from asynctrace import semconv
from asynctrace.aiohttp._body import meter_body, meter_of, size_of
from asynctrace.aiohttp._ending import (
    Outcome,
    Reason,
    Situation,
    is_one_write,
    of_exception,
    of_replaced,
    of_response,
    of_swallowed,
    of_unsent,
    tell,
    was_sent,
)
from asynctrace.aiohttp._holds import Holds
from asynctrace.aiohttp._request import Target
from asynctrace.aiohttp._websocket import conversation_of
from asynctrace.context import ContextToken, detach


class Server(Protocol):
    """What an exchange wants to know of the server."""

    @property
    def stopping(self) -> bool:
        """Whether the server has begun to shut down."""

    @property
    def holds(self) -> Holds:
        """The requests that are not over before their spans are delivered."""

    def target_of(self, request: web.Request) -> Target:
        """What is the same for the next request like this."""

    def fault(self, where: str, error: Exception) -> None:
        """Count and log an error of ours that the request does not get to see."""


class Exchange:
    """A request whose span is started and current, until it is ended exactly once."""

    __slots__ = ("_connection", "_response", "_server", "_token", "_too_late", "request", "span")

    def __init__(
        self, server: Server, request: web.Request, span: Span, token: ContextToken
    ) -> None:
        self._server = server
        self.request = request
        self.span = span
        self._token = token
        self._response: web.StreamResponse | None = None
        """What is being sent, or as good as sent."""
        self._connection: asyncio.Task[None] | None = request.task
        self._too_late = False
        """Whether the connection was closed before anything of the response could be sent."""

    def __repr__(self) -> str:
        return f"<Exchange {self.request.method} {self.request.path}>"

    def responded(self, response: object) -> None:
        """The handler returned, or raised, `response`.

        Where sending takes time, the span ends with the task that aiohttp runs the request in, and
        stays current until then, because the body may be made by the caller's code.
        """
        outcome = None
        try:
            if self._is_late(response):
                outcome = self._of_late(response)
            elif not isinstance(response, web.StreamResponse):  # aiohttp answers 500 in its place
                outcome = of_response(500)
            elif self._may_end_early(response):
                if _is_closed(self.request):
                    outcome = of_unsent(self._why_closed(), None)
                else:
                    self._response = response
                    outcome = of_response(response.status)
            elif (task := asyncio.current_task()) is not None:
                self._response = response
                if not response.prepared:
                    self._too_late = _is_closed(self.request)
                    meter_body(self.request)
                task.add_done_callback(self._sent)
                if self._server.holds.waiting:
                    self._server.holds.postpone(self)
                return
        except Exception as error:
            self._server.fault("aiohttp response", error)
        self._end(outcome)
        detach(self._token)

    def failed(self, error: BaseException) -> None:
        """The same for a handler that raised `error`."""
        if isinstance(error, web.HTTPException):
            self.responded(error)
            return
        self._end(self._of_error(error))
        detach(self._token)

    def _of_error(self, error: BaseException) -> Outcome | None:
        try:
            begun = self._has_begun()
            return self._of_failure(
                error,
                answered=not begun and not _is_closed(self.request),
                status_sent=self._status_begun() if begun else None,
            )
        except Exception as fault:
            self._server.fault("aiohttp failure", fault)
            return None

    def _has_begun(self) -> bool:
        """Whether some response went out; for one that is not metered, whether anything did."""
        meter = meter_of(self.request)
        if meter is not None and meter.status is None:
            return False
        size: object = self.request.writer.output_size  # none of a mocked request's
        return isinstance(size, int) and size > 0

    def _is_late(self, response: object) -> bool:
        """Whether another response went out before this one, which nobody will understand."""
        return self._has_begun() and not getattr(response, "prepared", False)

    def _of_late(self, response: object) -> Outcome:
        status_sent = self._status_begun()
        conversation = conversation_of(self.request)
        is_over = conversation is not None and conversation.is_over
        if _is_closed(self.request) and not is_over:
            return of_unsent(self._why_closed(), status_sent)
        if isinstance(response, Exception):
            return self._of_failure(response, status_sent=status_sent)
        if is_over and status_sent is not None:
            return of_response(status_sent)
        return of_replaced(status_sent)

    def _status_begun(self) -> int | None:
        """The status of the response that went out, if it was watched; else the next one is."""
        conversation = conversation_of(self.request)
        if conversation is not None and conversation.socket is not None:
            return conversation.socket.status
        meter = meter_of(self.request)
        if meter is not None:
            return meter.status
        self._server.target_of(self.request).streams = True
        return None

    def _may_end_early(self, response: web.StreamResponse) -> bool:
        return is_one_write(response)

    def sent_already(self) -> None:
        """The response is out, or all of it but its end; the task has something else to do."""
        task = asyncio.current_task()
        if task is not None:
            task.remove_done_callback(self._sent)
        self._end_sent(None, ends_later=True)

    def _sent(self, task: asyncio.Task[object]) -> None:
        """The request's task is done: for a response that was not ready when the handler was."""
        self._end_sent(asyncio.CancelledError() if task.cancelled() else task.exception())

    def _end_sent(self, error: BaseException | None, *, ends_later: bool = False) -> None:
        outcome = None
        response, self._response = self._response, None
        try:
            assert response is not None
            begun = response.prepared and self._has_begun()
            status_sent = response.status if begun and not self._too_late else None
            if error is not None:
                outcome = self._of_failure(error, status_sent=status_sent)
            elif self._is_broken_off():
                outcome = of_unsent(self._why_closed(), status_sent)
            elif not response.prepared and (instead := self._of_replacement()) is not None:
                outcome = instead
            elif was_sent(response) or (ends_later and not _is_closed(self.request)):
                outcome = of_response(response.status).and_also(self._of_body(response))
            elif self._is_swallowed(response):
                outcome = of_swallowed(status_sent)
            else:
                outcome = of_unsent(self._why_closed(), status_sent)
        except Exception as fault:
            self._server.fault("aiohttp response", fault)
        self._end(outcome)

    def _of_failure(
        self, error: BaseException, *, answered: bool = False, status_sent: int | None = None
    ) -> Outcome:
        stops = self._is_stopped() or self._is_stopped_by(error)
        situation = Situation(
            client_left=_is_closed(self.request) and not stops,
            server_stops=stops,
            answered=answered,
            status_sent=status_sent,
        )
        return of_exception(error, situation)

    def _is_broken_off(self) -> bool:
        """Whether a WebSocket's connection broke without a closing handshake."""
        conversation = conversation_of(self.request)
        return conversation is not None and conversation.is_lost

    def _of_replacement(self) -> Outcome | None:
        """The outcome of what was sent in place of a response that was never begun, to its end.

        An application that has this one in it may replace what is returned here.
        """
        meter = meter_of(self.request)
        if meter is None or meter.status is None or not meter.is_ending or meter.is_broken:
            return None
        outcome = of_response(meter.status)
        return outcome.and_also({semconv.HTTP_RESPONSE_BODY_SIZE: meter.size} if meter.size else {})

    def _is_swallowed(self, response: web.StreamResponse) -> bool:
        """Whether the body ended early although all of it could be written that there was."""
        meter = meter_of(self.request)
        return (
            isinstance(response, web.Response)
            and meter is not None
            and not meter.is_broken
            and self.request.transport is not None  # aiohttp hangs up now, or has just done so
        )

    def _of_body(self, response: web.StreamResponse) -> semconv.Attributes:
        if isinstance(response, web.WebSocketResponse):
            return {}
        attributes: semconv.Attributes = {}
        meter = meter_of(self.request)
        size = size_of(self.request, response, meter)
        if size is not None:
            attributes[semconv.HTTP_RESPONSE_BODY_SIZE] = size
        started = getattr(self.span, "start_time", None)
        if meter is not None and meter.begun and isinstance(started, int):
            attributes[semconv.TIME_TO_FIRST_BYTE] = max(0, meter.begun - started) / 1e9
        return attributes

    def _why_closed(self) -> Reason:
        return "shutdown" if self._is_stopped() else "client_disconnect"

    def _is_stopped(self) -> bool:
        """Whether the server shuts down, and has cancelled the connection's task: not the request's
        own alone, as the application may do.
        """
        return (
            self._server.stopping
            and self._connection is not None
            and self._connection.cancelling() > 0
            and not _is_awaited(self.request)
        )

    def _is_stopped_by(self, error: BaseException) -> bool:
        """Whether the server shuts down, and `error` is how it interrupts the reading of a body."""
        return (
            self._server.stopping
            and isinstance(error, asyncio.CancelledError)
            and error is self.request.content.exception()
        )

    def _end(self, outcome: Outcome | None) -> None:
        """Tell the outcome, unless ours failed to make one, and end the span."""
        span = self.span
        conversation = conversation_of(self.request)
        if conversation is not None:
            spoken = conversation.end()
            outcome = outcome and outcome.and_also(spoken)
        if not span.is_recording():  # the handler ended it, and it is left alone
            return
        if outcome is not None:
            try:
                tell(span, outcome)
            except Exception as error:
                self._server.fault("aiohttp outcome", error)
        try:
            span.end()
        except Exception as error:  # not by a span of ours
            self._server.fault("aiohttp end", error)


def _is_closed(request: web.Request) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()


def _is_awaited(request: web.Request) -> bool:
    """Whether the server, which shuts down, has not lost its patience with the request.

    It cancels the connection then as it does for a client that leaves, and drops the transport as
    for such a one; only this private name tells them apart: what the shutdown waits by until then.
    Without the name it is taken for the server.
    """
    return getattr(request.protocol, "_handler_waiter", None) is not None

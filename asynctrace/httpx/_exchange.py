"""What an attempt has beside its span: when options ask for it, or durations are measured."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal

from asynctrace import semconv
from asynctrace.httpx._attributes import identify
from asynctrace.httpx._phases import Phases, listen

if TYPE_CHECKING:
    import httpx
    from opentelemetry.trace import Span

    from asynctrace._http.client import Shaping
    from asynctrace.metrics import ClientMetrics

    Fault = Callable[[str, BaseException], None]
    Enrich = Literal["enrich_request", "enrich_response"]


class Exchange:
    """Goes along with an attempt, and is told of each of its steps."""

    __slots__ = (
        "_begun",
        "_fault",
        "_is_over",
        "_known",
        "_metrics",
        "_phases",
        "_request",
        "shaping",
    )

    def __init__(
        self,
        request: httpx.Request,
        shaping: Shaping,
        metrics: ClientMetrics | None,
        fault: Fault,
    ) -> None:
        self.shaping = shaping
        self._request = request
        self._metrics = metrics
        self._fault = fault
        self._begun = perf_counter()
        self._is_over = False
        self._known: semconv.Attributes = {}
        self._phases = Phases(request.extensions.get("trace")) if shaping.phases else None

    def listen(self, sent: httpx.Request, *, is_async: bool) -> None:
        """Have `sent`, a copy of ours, report its phases."""
        if self._phases is not None:
            listen(sent, self._phases, is_async=is_async)

    async def enrich(self, option: Enrich, span: Span, *args: object) -> None:
        """Call the user's hook. Its errors are contained; cancellation passes through."""
        hook = getattr(self.shaping, option)
        if hook is not None and span.is_recording():
            try:
                answer = hook(span, *args)
                if answer is not None:
                    await answer
            except Exception as error:
                self._fault(option, error)

    def enrich_now(self, option: Enrich, span: Span, *args: object) -> None:
        """The same for a synchronous client. A coroutine is run to its end."""
        hook = getattr(self.shaping, option)
        if hook is not None and span.is_recording():
            try:
                answer = hook(span, *args)
                if iscoroutine(answer):
                    _run(answer)
            except Exception as error:
                self._fault(option, error)

    def received(self, response: httpx.Response, attributes: semconv.Attributes) -> bool:
        """The response's headers are there; `attributes` are those they make, to be added to.

        Returns whether the span is to end with them.
        """
        self._known = dict(attributes)
        capture = self.shaping.response_headers
        if capture is not None:
            attributes.update(capture.attributes(response.headers.multi_items()))
        return self.shaping.end_at_headers

    def ended(
        self, attributes: semconv.Attributes, error: BaseException | None, *, in_finalizer: bool
    ) -> None:
        """The exchange is over, whichever way; `attributes` are the span's last, to be added to."""
        if self._phases is not None:
            attributes.update(self._phases.attributes())
        metrics = self._metrics
        if metrics is None or self._is_over:
            return
        self._is_over = True
        try:
            known = identify(self._request)
            for name in _MEASURED:
                if name in self._known:
                    known[name] = self._known[name]
            if isinstance(error, Exception):
                known[semconv.ERROR_TYPE] = semconv.error_type(type(error))
            record = metrics.record_later if in_finalizer else metrics.record
            record(perf_counter() - self._begun, known)
        except Exception as fault:
            self._fault("http.client.request.duration", fault)

    def record_late(self) -> None:
        """Record what a finalizer could not, if it was left for that."""
        if self._metrics is not None:
            self._metrics.record_late()


_MEASURED: Final = (
    semconv.HTTP_RESPONSE_STATUS_CODE,
    semconv.NETWORK_PROTOCOL_VERSION,
    semconv.ERROR_TYPE,
)
"""What a duration has of a response, as the conventions list it."""


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine where nobody awaits it: on a new loop, in a thread if one runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _run_to_end(coroutine)
        return
    failure: list[BaseException] = []

    def run() -> None:
        try:
            _run_to_end(coroutine)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def _run_to_end(coroutine: Coroutine[Any, Any, None]) -> None:
    # Not `asyncio.run`, which would take the thread's event loop away from whoever has set one.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()

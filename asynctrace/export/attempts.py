"""The attempts to deliver one batch: time-outs, back-off, and the circuit that they open and close.

What to do about a failure is decided in `retry`, whether to send at all in `circuit`; this is the
shell that calls the exporter and waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, TypeAlias

from .circuit import Circuit, CircuitState
from .contracts import Batch, Delivered, Exporter, Outcome, Undelivered, Unrepeatable
from .retry import Action, Decision, RetryPolicy

LONGEST_PAUSE = 30.0
"""Seconds between two probes of a receiver that has been away for long."""

Timed: TypeAlias = Callable[[float, Outcome], None]
"""Is told of the export of each batch: its seconds, with all attempts and the back-off between
them, and what came of the last."""


class Urgency(NamedTuple):
    """Compared with that of a moment ago, it says whether there is a new reason to try at once."""

    closing: bool
    flushes: int
    """How many flushes have begun so far."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an attempt, and all attempts for one batch together, may take. Seconds."""

    attempt: float
    export: float


class Attempts:
    """Calls one exporter, never twice at a time. Only the host calls this."""

    def __init__(
        self,
        exporter: Exporter,
        *,
        limits: Limits,
        retry: RetryPolicy,
        urgency: Callable[[], Urgency],
        holds: Callable[[Batch], bool],
        on_failure: Callable[[Undelivered], None],
        on_retry: Callable[[], None],
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        """`holds` tells whether a batch is still this pipeline's to deliver; `on_failure` is told
        of each attempt that failed, unless the batch was merely too large."""
        self.circuit = Circuit(first=retry.initial, longest=LONGEST_PAUSE)
        self.deadline: float | None = None
        """Of the shutdown, once it has begun."""
        self.retries = True
        """Whether a batch gets more than one attempt."""
        self.exiting = False
        """Whether the interpreter exits, so that no thread can be started any more."""
        self.timed: Timed | None = None
        self._exporter = exporter
        self._limits = limits
        self._retry = retry
        self._urgency = urgency
        self._holds = holds
        self._on_failure = on_failure
        self._on_retry = on_retry
        self._clock = clock
        self._jitter = jitter
        self._urgency_tried = urgency()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        """An exporter is called again only when it has returned, whoever calls it."""

    def begin(self, wake: asyncio.Event) -> None:
        """On a new host; `wake` is set there when a flush or the close begins."""
        self._wake = wake
        self._turn = asyncio.Lock()  # one that stood still may hold the last for ever

    # ---- whether and when

    async def wait_for_circuit(self) -> bool:
        """Until a batch may go out. False when none may before the end of a shutdown."""
        while not self.may_send():
            wait = self.circuit.wait(self._clock())
            if self._urgency().closing and wait >= self._time_left(self._clock()):
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            self._wake.clear()
        return True

    def may_send(self) -> bool:
        """Whether a batch may go out now."""
        urgency = self._urgency()
        return self.circuit.admits(
            self._clock(), hurried=urgency != self._urgency_tried, closing=urgency.closing
        )

    def may_repeat(self, batch: Batch) -> bool:
        """Whether another attempt cannot deliver `batch` twice by the exporter's own doing."""
        exporter = self._exporter
        return not (isinstance(exporter, Unrepeatable) and exporter.has_begun(batch))

    def open_circuit(self, failure: Undelivered) -> None:
        """After a batch was given up, or the receiver asked for quiet: nothing goes out for now."""
        self.circuit.failed(self._clock(), random=self._jitter(), quiet=failure.retry_after)

    def _time_left(self, started: float) -> float:
        end = started + self._limits.export
        if self.deadline is not None:
            end = min(end, self.deadline)
        return end - self._clock()

    # ---- the attempts

    async def deliver(self, batch: Batch) -> tuple[Action, Outcome]:
        """Try until the batch has arrived, or another attempt makes no sense.

        Returns what is to become of the batch, and the last outcome. When the batch is not held
        any more there are no further attempts.
        """
        started = self._clock()
        self.circuit.probe()
        action, outcome = await self._deliver(batch, started)
        self._tell(started, outcome)
        return action, outcome

    async def deliver_once(self, batch: Batch) -> Outcome:
        """One attempt, whatever the circuit says."""
        started = self._clock()
        outcome = await self._attempt(batch, started)
        self._tell(started, outcome)
        return outcome

    async def _deliver(self, batch: Batch, started: float) -> tuple[Action, Outcome]:
        for attempt in count(1):
            self._urgency_tried = self._urgency()
            outcome = await self._attempt(batch, started)
            if isinstance(outcome, Delivered) or not self._holds(batch):
                break
            decision = self._decide(outcome, batch, attempt, self._time_left(started))
            if decision.action is not Action.RETRY:
                self._note_outage(outcome)
                return decision.action, outcome
            self._on_retry()
            await self._pause(decision.delay, throttled=outcome.retry_after is not None)
        return Action.SETTLE, outcome

    async def _attempt(self, batch: Batch, started: float) -> Outcome:
        """One call of the exporter, cut off by its time-out; every failure is an answer.

        The deadline of a shutdown is no time-out: at that, the task that calls this is cancelled.
        """
        left = max(0.0, started + self._limits.export - self._clock())
        outcome = await self._call(batch, min(self._limits.attempt, left))
        answered = isinstance(outcome, Delivered) or not outcome.retryable
        if answered and self.circuit.state is not CircuitState.CLOSED:
            self.circuit.answered()
            self._wake.set()  # the drain task may wait, where another has sent this
        return outcome

    def _tell(self, started: float, outcome: Outcome) -> None:
        if self.timed is not None:
            self.timed(self._clock() - started, outcome)

    async def _call(self, batch: Batch, timeout: float) -> Outcome:
        end = self._clock() + timeout
        deadline = end if self.deadline is None else min(end, self.deadline)
        try:
            async with asyncio.timeout(timeout) as limit, self._turn:
                return await self._exporter.export(batch, deadline)
        except Exception as error:  # an exporter may be anybody's
            if limit.expired():
                message = f"no answer within {timeout:g} s"
                return Undelivered("timeout", message, retryable=self.may_repeat(batch))
            if self.exiting and isinstance(error, RuntimeError):
                raise  # it may have wanted a thread: see `Pipeline.expect_exit`
            return Undelivered("exporter_error", repr(error))

    def _decide(
        self, failure: Undelivered, batch: Batch, attempt: int, remaining: float
    ) -> Decision:
        decision = self._retry.decide(
            failure,
            spans=len(batch),
            attempt=attempt,
            remaining=remaining if self.retries else 0.0,
            random=self._jitter(),
            probing=self.circuit.state is CircuitState.HALF_OPEN,
            closing=self._urgency().closing,
        )
        if decision.action not in {Action.SPLIT, Action.DROP}:  # which are no outage
            self._on_failure(failure)
        return decision

    def _note_outage(self, failure: Undelivered) -> None:
        probed = self.circuit.state is not CircuitState.CLOSED
        # A shutdown that has little time proves no outage: each batch is tried.
        proven = probed or failure.retry_after is not None or not self._urgency().closing
        if failure.retryable and proven:
            self.open_circuit(failure)

    async def _pause(self, delay: float, *, throttled: bool) -> None:
        """Back off; a flush or a shutdown that begins meanwhile is a reason to try at once,
        unless the receiver itself asked for the delay."""
        before = self._urgency()
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                while throttled or self._urgency() == before:
                    await self._wake.wait()
                    self._wake.clear()

    def __repr__(self) -> str:
        return f"<Attempts of {self._exporter!r} {self.circuit!r}>"

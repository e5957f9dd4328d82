"""Loop health: how late the event loop is, and who blocks it.

::

    heartbeat, on the loop     measures how late it is called: the lag
    watchdog, a daemon thread  sees that the heartbeat is overdue; while it still is, takes the
                               stack of the loop's thread and tells it on the span that runs there

What a block leaves in the trace:

==================================  ===============================================================
event ``asynctrace.loop.blocked``   on the span that ran: the stack, and how long it had lasted
``asynctrace.loop.blocked_time``    on the span that ran: seconds for which it blocked the loop
``asynctrace.loop.wait_time``       on the others that were open, but for the ancestors of that one:
                                    seconds of them in which the loop could do nothing for them
==================================  ===============================================================

The times are brought up to date while the block lasts, because its span may end with it. They are
counted from when the heartbeat was due, and so may be short by its interval, never long. When
several spans block one after the other, before the loop runs again, each that is seen is told of
its part. What blocks while it holds the interpreter's lock cannot be watched: it is counted,
without a stack.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
import weakref
from types import FrameType

from opentelemetry import metrics

from asynctrace import _threads
from asynctrace.context.current import span_in
from asynctrace.context.own import context_of
from asynctrace.export.reports import LoopStatistics
from asynctrace.semconv import CODE_STACKTRACE, LOOP_BLOCKED_TIME, LOOP_WAIT_TIME
from asynctrace.trace.provider import TracerProvider
from asynctrace.trace.span import Span

BLOCKED_EVENT = "asynctrace.loop.blocked"
LAG_METRIC = "asynctrace.loop.lag"

# To wake a thread takes a tenth of a millisecond of CPU time on a slow machine. With a threshold of
# 0.1 seconds there are 10 heartbeats and 5 looks per second; that is the overhead at rest. What
# lasts twice the threshold is always seen, what is shorter may fall between two heartbeats.
_SHORTEST, _LONGEST = 0.005, 0.1  # seconds between heartbeats
_LATER = 0.001  # seconds after which a heartbeat, if it can come, has come
_FRAMES = 30  # of a stack, the innermost
_STEP = 1.25
_WAITING = 200  # open spans at most that are told of one block, the oldest


class LoopMonitor:
    """Watches one loop, from `start`, called on it, to `stop`.

    `threshold` is in seconds. It ends by itself with its loop or its provider.
    """

    def __init__(self, provider: TracerProvider, *, threshold: float) -> None:
        self._provider = weakref.ref(provider)
        self._threshold = threshold
        self._interval = min(max(threshold, _SHORTEST), _LONGEST)
        self._stopped = threading.Event()
        self._histogram = metrics.get_meter("asynctrace").create_histogram(
            LAG_METRIC, unit="s", description="How late the event loop calls what is due."
        )
        self._due = 0.0
        """When the loop has to call the heartbeat; changed by the loop's thread alone."""
        self._thread = 0
        self._paused = False
        self._block: Block | None = None
        self._lag = 0.0
        self._longest_lag = 0.0
        self._blocks = 0
        self._blocked_time = 0.0

    def start(self) -> None:
        """Watch the running loop. Raises RuntimeError when no thread can be started."""
        self._loop = asyncio.get_running_loop()
        self._schedule(time.monotonic())
        _threads.start(self._watch)

    def stop(self) -> None:
        """Stop watching. Any thread; waits for nothing."""
        self._stopped.set()

    def statistics(self) -> LoopStatistics:
        """The figures of now. Any thread."""
        return LoopStatistics(
            lag=self._lag,
            longest_lag=self._longest_lag,
            blocks=self._blocks,
            blocked_time=self._blocked_time,
        )

    # ---- on the loop

    def _schedule(self, now: float) -> None:
        self._thread = threading.get_ident()
        self._due = now + self._interval
        self._loop.call_later(self._interval, self._beat)

    def _beat(self) -> None:
        if self._stopped.is_set():
            return
        now = time.monotonic()
        lag = max(0.0, now - self._due)
        if self._paused:  # the loop did not run meanwhile, which is not to be late
            self._paused = False
        else:
            self._measure(lag)
        self._schedule(now)

    def _measure(self, lag: float) -> None:
        self._lag = lag
        self._longest_lag = max(self._longest_lag, lag)
        self._histogram.record(lag)
        if lag < self._threshold:
            return
        self._blocks += 1
        self._blocked_time += lag
        block, self._block = self._block, None
        if block is not None and block.due == self._due:
            block.lasts(lag)

    # ---- in the thread

    def _watch(self) -> None:
        while not self._stopped.wait(self._until_next_look()):
            provider = self._provider()
            if provider is None or self._loop.is_closed():
                return
            try:
                self._look(provider)
            except Exception as error:
                provider.fault("loop_monitor", error)
            del provider

    def _until_next_look(self) -> float:
        """Seconds until the heartbeat can be late enough; while it is, those between looks."""
        left = self._due + self._threshold - time.monotonic()
        return left + _LATER if left > 0 else self._interval

    def _look(self, provider: TracerProvider) -> None:
        due = self._due
        late = time.monotonic() - due
        if late < self._threshold:
            return
        if not self._loop.is_running():
            self._paused = True
            return
        frame = sys._current_frames().get(self._thread)
        task = asyncio.current_task(self._loop)
        span = None if task is None else span_of_task(task)
        block = self._block
        if block is not None and block.due == due and block.span is span:
            block.lasts_still(late)
            return
        stack = summary(frame)
        del frame  # it would keep the locals of who blocks
        if self._due != due:  # and what was seen is not of this block
            return
        if block is None or block.due != due:
            self._block = block = Block(due, provider.open_spans())
        block.is_of(span, late, stack)

    def __repr__(self) -> str:
        state = "stopped" if self._stopped.is_set() else "watching"
        return f"<LoopMonitor {state}, lag={self._lag:.3f} s, blocks={self._blocks}>"


class Block:
    """One time that the loop was blocked, and the spans that are told of it.

    It may be of several spans, one after the other: in one step of a task, or in the steps of
    several tasks between which the loop does not come to its heartbeat.
    """

    __slots__ = ("_costs", "_looked", "_next", "_open_spans", "_waiting", "due", "span")

    def __init__(self, due: float, open_spans: tuple[Span, ...]) -> None:
        self.due = due
        self.span: object = None
        """What ran when it was last looked at."""
        self._open_spans = open_spans
        self._waiting: list[Cost] | None = None
        self._costs: list[Cost] = []
        self._looked = 0.0
        self._next = 0.0

    def is_of(self, span: object, late: float, stack: traceback.StackSummary) -> None:
        """`span` is seen to run, with this stack, after `late` seconds."""
        running = span if isinstance(span, Span) and span.is_recording() else None
        at_work = _at_work(running, self._open_spans)
        if self._waiting is None:
            waiting = [one for one in self._open_spans if one._span_id not in at_work]
            self._waiting = [
                Cost(one, LOOP_WAIT_TIME, since=_begun(one, late)) for one in waiting[:_WAITING]
            ]
        else:
            self._waiting = [cost for cost in self._waiting if cost.span._span_id not in at_work]
        self.span = span
        self._costs = [*self._waiting]
        if running is not None:
            begun = _begun(running, late)
            # One that had begun before, when another one was seen, blocks since nobody knows when.
            since = begun if begun >= self._looked else late
            self._costs.append(Cost(running, LOOP_BLOCKED_TIME, since=since))
            running.add_event(
                BLOCKED_EVENT,
                {CODE_STACKTRACE: "".join(stack.format()), LOOP_BLOCKED_TIME: late},
            )
        self._looked = late
        self.lasts(late)

    def lasts(self, late: float) -> None:
        """It has lasted `late` seconds."""
        for cost in self._costs:
            cost.tell(late)
        self._next = _STEP * late

    def lasts_still(self, late: float) -> None:
        """The same, told seldom: not at each look, but when it has grown by a quarter."""
        self._looked = late
        if late >= self._next:
            self.lasts(late)


class Cost:
    """Seconds on one span of a block, from `since` on, added to those told before."""

    __slots__ = ("_before", "_name", "_since", "span")

    def __init__(self, span: Span, name: str, *, since: float = 0.0) -> None:
        self.span = span
        self._name = name
        self._since = since
        before = span.attributes.get(name)
        self._before = before if isinstance(before, float) else 0.0

    def tell(self, late: float) -> None:
        """The block has lasted `late` seconds."""
        if self.span.is_recording():
            self.span.set_attribute(self._name, self._before + late - self._since)


def _begun(span: Span, late: float) -> float:
    """When `span` began, in seconds of a block that has lasted `late` ones; 0 if before it."""
    age = (span._tracer._core.clock() - span.start_time) / 1e9
    return min(max(0.0, late - age), late)


def _at_work(running: Span | None, open_spans: tuple[Span, ...]) -> set[int]:
    """The ids of `running` and its ancestors, which do not wait for it."""
    at_work: set[int] = set()
    if running is not None:
        parents = {span._span_id: span._parent_id for span in open_spans}
        parents[running._span_id] = running._parent_id  # it may have begun since
        at = running._span_id
        while at and at not in at_work:
            at_work.add(at)
            at = parents.get(at, 0)
    return at_work


def summary(frame: FrameType | None) -> traceback.StackSummary:
    """The stack that ends in `frame`, without looking up its source yet."""
    # Without a frame it would walk our own stack.
    frames = [] if frame is None else list(traceback.walk_stack(frame))[:_FRAMES]
    return traceback.StackSummary.extract(reversed(frames), lookup_lines=False)


def span_of_task(task: asyncio.Task[object]) -> object:
    """The span that is current in `task`, which another thread runs; None when there is none."""
    context = context_of(task)
    return None if context is None else span_in(context)

"""What the exporters have in common that write somewhere instead of sending."""

from __future__ import annotations

from abc import ABC, abstractmethod

from asynctrace import _threads

from .contracts import Batch, Delivered, Outcome, Undelivered


class WritingExporter(ABC):
    """Writes in a daemon thread: a terminal that is stopped, a full pipe or a disk that hangs
    blocks nobody.

    A write that is cut off at its deadline goes on in its thread. Until it has ended no other
    begins, so that nothing is mixed up; when the same batch comes again after that, it is not
    written twice.
    """

    needs_spans = False

    def __init__(self, *, name: str) -> None:
        self.name = name
        self._writing: _Writing | None = None

    @abstractmethod
    def _write(self, batch: Batch) -> None:
        """Write the batch, blocking. Raises OSError when it cannot be written now."""

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        """Write one batch; the pipeline keeps the deadline by cancelling."""
        del deadline
        last = self._writing
        if last is not None:
            if last.outcome is None:
                return Undelivered("busy", "the last write has not returned", retryable=True)
            self._writing = None
            if last.batch is batch and isinstance(last.outcome, Delivered):
                return last.outcome
        writing = self._writing = _Writing(batch)
        try:
            outcome = await _threads.call(self._run, writing)
        except RuntimeError:  # no thread was to be had
            self._writing = None
            raise
        self._writing = None
        return outcome

    def _run(self, writing: _Writing) -> Outcome:
        outcome = writing.outcome = self._try(writing.batch)
        return outcome

    def _try(self, batch: Batch) -> Outcome:
        try:
            self._write(batch)
        except OSError as error:
            return Undelivered("unwritable", str(error), retryable=True)
        except Exception as error:  # the stream may be anybody's; without an outcome it stays busy
            return Undelivered("exporter_error", repr(error))
        return Delivered()

    async def close(self) -> None:  # noqa: B027  # there is nothing to do, nor for subclasses
        """Nothing is bound to the loop."""

    async def shutdown(self) -> None:  # noqa: B027
        """Nothing is held open."""

    def after_fork(self) -> None:
        self._writing = None  # its thread is the parent's

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        """One write, unless another is still under way: it may hang, and nobody could cut it."""
        del deadline
        if self._writing is not None and self._writing.outcome is None:
            return Undelivered("busy", "the last write has not returned")
        return self._try(batch)

    def __repr__(self) -> str:
        busy = self._writing is not None and self._writing.outcome is None
        return f"<{type(self).__name__}{' busy' if busy else ''}>"


class _Writing:
    """One write, and what came of it."""

    __slots__ = ("batch", "outcome")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.outcome: Outcome | None = None

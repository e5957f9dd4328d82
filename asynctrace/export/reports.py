"""What flush, shutdown and statistics say: immutable values, with no way back to the internals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ExporterReport:
    """What became of one exporter's spans, those that the report is about."""

    exported: int
    failed: int
    dropped: Mapping[str, int]
    """By reason."""
    pending: int
    """Still queued or in flight when the report was made."""
    last_error: str | None = None
    spooled: int = 0
    """Written to disk: not lost, and not delivered yet when they were written. What is sent from
    there is counted apart, as `replayed` in the statistics of whoever sends it."""

    @classmethod
    def of(cls, figures: ExporterStatistics) -> ExporterReport:
        """What a snapshot says of the whole life so far."""
        return cls(
            exported=figures.exported,
            failed=figures.failed,
            dropped=figures.dropped,
            pending=figures.queued + figures.in_flight,
            last_error=figures.last_error,
            spooled=figures.spooled,
        )

    def __bool__(self) -> bool:
        """Whether every span arrived."""
        missing = self.failed or self.pending or self.spooled or any(self.dropped.values())
        return not missing


def combined(one: ExporterReport, other: ExporterReport) -> ExporterReport:
    """What both say, added up."""
    return ExporterReport(
        exported=one.exported + other.exported,
        failed=one.failed + other.failed,
        dropped=MappingProxyType(dict(Counter(one.dropped) + Counter(other.dropped))),
        pending=one.pending + other.pending,
        last_error=one.last_error or other.last_error,
        spooled=one.spooled + other.spooled,
    )


@dataclass(frozen=True, slots=True)
class _Report:
    """Per exporter, and added up over all of them."""

    exporters: Mapping[str, ExporterReport]
    timed_out: bool
    """The deadline passed before everything was settled."""
    elapsed: float
    """Seconds."""

    @property
    def exported(self) -> int:
        return sum(report.exported for report in self.exporters.values())

    @property
    def failed(self) -> int:
        return sum(report.failed for report in self.exporters.values())

    @property
    def dropped(self) -> Mapping[str, int]:
        """By reason."""
        total: Counter[str] = Counter()
        for report in self.exporters.values():
            total.update(report.dropped)
        return MappingProxyType(dict(total))

    @property
    def spooled(self) -> int:
        """Spans that wait on disk."""
        return sum(report.spooled for report in self.exporters.values())

    @property
    def pending(self) -> int:
        return sum(report.pending for report in self.exporters.values())

    def __bool__(self) -> bool:
        """Whether every span that was accepted arrived, at every exporter."""
        return all(self.exporters.values()) and not self.timed_out

    def __str__(self) -> str:
        parts = [f"exported {self.exported}", f"failed {self.failed}"]
        parts += [f"dropped {count} ({reason})" for reason, count in self.dropped.items()]
        if self.spooled:
            parts.append(f"spooled {self.spooled}")
        if self.pending:
            parts.append(f"pending {self.pending}")
        verdict = "timed out" if self.timed_out else "complete"
        return f"{', '.join(parts)}; {verdict} in {self.elapsed:.3f} s"


@dataclass(frozen=True, slots=True)
class FlushReport(_Report):
    """What became of the spans that had ended before `force_flush` was called.

    Spans that an exporter had settled before the call are not in it. A span is `pending` when it
    had not been settled at the deadline; it stays queued and is delivered later if it can be.
    """


@dataclass(frozen=True, slots=True)
class ShutdownReport(_Report):
    """What became of all spans from `init` to the end of `shutdown`."""

    unfinished: int = 0
    """How many spans were still open and were ended, marked, by the shutdown."""


@dataclass(frozen=True, slots=True)
class SpoolStatistics:
    """One exporter's spool: what was read from it, also what earlier processes left there."""

    replayed: int
    """Spans that came from disk and arrived."""
    rejected: int
    """Spans that came from disk and were refused for ever."""
    too_large: int
    """Spans that came from disk and were, each alone in a request, more than the receiver takes."""
    damaged: int
    """Torn or corrupted stretches that were skipped: one record each, or several in a row."""
    evicted: int
    """Spans that were deleted unsent so that the directory keeps its bound, also those that other
    processes had written."""
    bytes: int
    """What the directory takes, all processes together, when it was last looked at."""
    last_error: str | None
    last_error_time: float | None
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ExporterStatistics:
    """One exporter's figures since `init`, or since the fork that made this process.

    `accepted == exported + failed + dropped + spooled + queued + in_flight` in every snapshot.
    """

    accepted: int
    """Ended and sampled spans that were handed to this exporter's pipeline, dropped ones too."""
    exported: int
    failed: int
    """Refused by the receiver, or given up after retries."""
    dropped: Mapping[str, int]
    """By reason; never handed to the exporter, or cut off by a deadline."""
    queued: int
    queued_bytes: int
    in_flight: int
    retries: int
    last_error: str | None
    last_error_time: float | None
    """Seconds since the epoch."""
    last_success_time: float | None
    """Seconds since the epoch."""
    spooled: int = 0
    """Written to disk because they could not be delivered. Those that this pipeline has to delete
    there, for newer ones, are `dropped` instead; what is sent is counted apart, as `replayed`, by
    whoever sends it."""
    replayed: int = 0
    """Spans that came from disk and arrived, also those of earlier processes and of others."""
    spool: SpoolStatistics | None = None
    failing: bool = False
    """Whether the last attempt to deliver failed; a batch that was taken in part did not."""
    circuit: str = "closed"
    """`closed`: batches go out; `open`: the receiver is away or asked for quiet, and spans wait;
    `half_open`: one batch probes whether it is back."""

    @property
    def healthy(self) -> bool:
        """Whether the last attempt succeeded, or there was none yet."""
        return not self.failing

    def __str__(self) -> str:
        parts = [f"queued={self.queued} exported={self.exported} failed={self.failed}"]
        parts.append(f"dropped={sum(self.dropped.values())}")
        if self.spooled or self.replayed:
            parts.append(f"spooled={self.spooled} replayed={self.replayed}")
        if self.circuit != "closed":
            parts.append(f"circuit={self.circuit}")
        if not self.healthy:
            parts.append(f"last_error={self.last_error!r}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class LoopStatistics:
    """How the event loop does, since `init(loop_monitor=True)`. Times are in seconds."""

    lag: float
    """How late the loop was last."""
    longest_lag: float
    blocks: int
    """How often it was blocked for longer than `loop_block_threshold`."""
    blocked_time: float
    """All blocks together."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot of a `Tracing`, per exporter and added up."""

    state: str
    exporters: Mapping[str, ExporterStatistics]
    open_spans: int
    open_span_overflow: int
    """Spans that were started while the table of open spans was full, and are not in it."""
    faults: Mapping[str, int]
    """Exceptions of hooks, samplers, processors and of our own code that were contained."""
    loop: LoopStatistics | None = None
    """None without `loop_monitor`."""
    longest_stall: float = 0.0
    """Seconds for which encoding or delivering spans held the event loop at a stretch, at most.
    By the clock on the wall: what a busy machine took meanwhile is in it."""

    @property
    def healthy(self) -> bool:
        """Whether it runs, and the last attempt of every exporter succeeded."""
        return self.state == "running" and all(
            figures.healthy for figures in self.exporters.values()
        )

    @property
    def accepted(self) -> int:
        return sum(figures.accepted for figures in self.exporters.values())

    @property
    def exported(self) -> int:
        return sum(figures.exported for figures in self.exporters.values())

    @property
    def failed(self) -> int:
        return sum(figures.failed for figures in self.exporters.values())

    @property
    def dropped(self) -> int:
        return sum(sum(figures.dropped.values()) for figures in self.exporters.values())

    @property
    def spooled(self) -> int:
        return sum(figures.spooled for figures in self.exporters.values())

    @property
    def replayed(self) -> int:
        return sum(figures.replayed for figures in self.exporters.values())

    @property
    def queued(self) -> int:
        return sum(figures.queued for figures in self.exporters.values())

    @property
    def in_flight(self) -> int:
        return sum(figures.in_flight for figures in self.exporters.values())

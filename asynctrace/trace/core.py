"""What the tracers and spans of one provider share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

from .ids import Ids
from .limits import Limits
from .open_spans import OpenSpans
from .processors import Processors
from .sampling import Rules
from .sink import Faults

if TYPE_CHECKING:
    from .sink import SpanSink


MOST_TOLD = 64
"""Log lines about spans that are used after their end; the names of spans may be without number."""

TRUSTED = 64
"""Attributes that an integration of ours sets at the start, and at the end, at most."""


class Core:
    """Stands between the provider and its spans: a span reaches everything by one reference.

    `resource` is read through here whenever it is wanted, never copied into a span: it may still
    change while resource detectors run, and spans begun meanwhile carry the final one.
    """

    __slots__ = (
        "clock",
        "fault",
        "ids",
        "limits",
        "open_spans",
        "plain",
        "processors",
        "quick_end",
        "quick_rules",
        "resource",
        "rules",
        "sampler",
        "sink",
        "span_limits",
        "told",
    )

    def __init__(
        self,
        *,
        sampler: Sampler,
        resource: Resource,
        id_generator: IdGenerator | None,
        span_limits: SpanLimits,
        clock: Callable[[], int],
        sink: SpanSink | None,
        max_open_spans: int,
    ) -> None:
        self.sampler = sampler
        self.rules = Rules.of(sampler)
        """The sampler as a table, when it is one of the SDK's own; None: ask the sampler."""
        self.resource = resource
        self.span_limits = span_limits
        self.limits = Limits.of(span_limits)
        self.clock = clock
        self.sink = sink
        self.fault = Faults(sink)
        self.ids = Ids(id_generator, self.fault)
        self.plain = (
            self.ids.plain
            and self.limits.span.length is None
            and (self.limits.span.count >= 2 * TRUSTED)
        )
        """Whether ids are random and no limit can touch what an integration sets."""
        self.processors = Processors(self.fault, changed=self._choose)
        self.open_spans = OpenSpans(max_open_spans)
        self.told: set[tuple[str, str]] = set()
        """Methods that were called on ended spans, and the spans' names, as far as logged."""
        self._choose()

    def _choose(self) -> None:
        """Decide once, and not for each span, whether there is anything unusual to look at."""
        quick = self.plain and not self.processors.added
        self.quick_rules = self.rules if quick else None
        """`rules`, when they are all that a span's start depends on."""
        self.quick_end = None if self.sink is None or not quick else self.sink.on_end
        """The sink, when nobody else is told of a span's end."""

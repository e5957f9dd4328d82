"""Requests whose caller decided that their trace is not sampled.

In a sampled-down service they are most of what comes in, and most start no span and call nobody. So
their header is checked, because a malformed one begins a new trace, but not read before somebody
asks for the ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import getrandbits
from typing import Any, Final, Protocol

from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Tracer as ApiTracer

from asynctrace.propagation.tracecontext import remote_span

from .ids import RANDOM_TRACE_ID
from .lean import DroppedSpan

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

# Version 00, valid ids, the sampled flag clear. What else a header may be goes the long way.
match_unsampled: Final = re.compile(
    "00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]"
).fullmatch

_FIELDS: Final = frozenset({"_trace_id", "_span_id", "_trace_flags", "_trace_state"})


class Headers(Protocol):
    """A multidict, as far as it is used here."""

    def getall(self, key: str, default: tuple[()], /) -> Sequence[str]: ...


class UnsampledSpan(DroppedSpan):
    """A `DroppedSpan` that is still in its caller's headers, which `match_unsampled` matched once.

    Started past its constructors: whoever makes one sets `_headers` and nothing else.
    """

    _headers: Headers

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there: one of the four fields, until one was asked for."""
        if name not in _FIELDS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        headers = self._headers
        caller = remote_span(headers.getall(TRACEPARENT, ()), headers.getall(TRACESTATE, ()))
        assert caller is not None
        fields = vars(self)
        # Two threads that ask at once get the same id.
        fields.setdefault("_span_id", getrandbits(64) or 1)
        fields["_trace_id"] = caller._trace_id
        fields["_trace_flags"] = caller._trace_flags & RANDOM_TRACE_ID
        fields["_trace_state"] = caller._trace_state
        return fields[name]


def drops_unsampled(tracer: ApiTracer) -> bool:
    """Whether `tracer` makes nothing but a `DroppedSpan`, with a random id, of such a request."""
    core = getattr(tracer, "_core", None)
    if core is None:  # of another make
        return False
    rules = core.rules
    return bool(core.ids.plain and rules is not None and rules.remote_not_sampled is Decision.DROP)

"""Trace and span ids from the SDK's id generators, kept valid whatever a generator does."""

from __future__ import annotations

from random import getrandbits
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import TraceFlags

if TYPE_CHECKING:
    from .attributes import Fault

RANDOM_TRACE_ID: int = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
"""The W3C level 2 flag; 0, and so without effect, in an OpenTelemetry that does not know it yet."""

_TRACE_ID_BITS = 128
_SPAN_ID_BITS = 64


class Ids:
    """New ids. The SDK's default generator is `getrandbits`, so it is called without detour."""

    __slots__ = ("_fault", "generator", "plain")

    def __init__(self, generator: IdGenerator | None, fault: Fault) -> None:
        self.generator = RandomIdGenerator() if generator is None else generator
        self.plain = type(self.generator) is RandomIdGenerator
        """The tracer may take the ids from `getrandbits`; 0 is the one value to be replaced."""
        self._fault = fault

    def trace_id(self) -> int:
        """A valid trace id: the generator's, or a random one when it raises or returns none."""
        try:
            trace_id = self.generator.generate_trace_id()
            if 0 < trace_id < 1 << _TRACE_ID_BITS:
                return trace_id
            raise ValueError(f"{trace_id!r} is not a trace id")
        except Exception as error:
            self._fault("id_generator.generate_trace_id", error)
            return getrandbits(_TRACE_ID_BITS) or 1

    def span_id(self) -> int:
        """A valid span id, by the same rule."""
        try:
            span_id = self.generator.generate_span_id()
            if 0 < span_id < 1 << _SPAN_ID_BITS:
                return span_id
            raise ValueError(f"{span_id!r} is not a span id")
        except Exception as error:
            self._fault("id_generator.generate_span_id", error)
            return getrandbits(_SPAN_ID_BITS) or 1

    def flags(self) -> int:
        """`RANDOM_TRACE_ID` when the generator says that its trace ids are random, else 0."""
        is_random = getattr(self.generator, "is_trace_id_random", None)
        if is_random is None:
            return 0
        try:
            return RANDOM_TRACE_ID if is_random() else 0
        except Exception as error:
            self._fault("id_generator.is_trace_id_random", error)
            return 0

    def __repr__(self) -> str:
        return f"Ids({type(self.generator).__name__})"

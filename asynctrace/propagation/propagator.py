"""The propagation formats as OpenTelemetry propagators, and the configured ones as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry import baggage as baggage_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from asynctrace.errors import ConfigError
from asynctrace.propagation import carriers
from asynctrace.propagation.baggage import format_baggage, parse_baggage
from asynctrace.propagation.carriers import CARRIER_GETTER, CARRIER_SETTER, texts
from asynctrace.propagation.tracecontext import format_traceparent, identity, remote_span

__all__ = [
    "BaggagePropagator",
    "Propagator",
    "TraceContextPropagator",
]

_log = logging.getLogger("asynctrace.propagation")


class TraceContextPropagator(TextMapPropagator):
    """``traceparent`` and ``tracestate``."""

    def extract(
        self,
        carrier: Any,
        context: Context | None = None,
        getter: Getter[Any] = CARRIER_GETTER,
    ) -> Context:
        if context is None:
            context = Context()
        traceparents = texts(getter.get(carrier, "traceparent"))
        if not traceparents:
            return context
        span = remote_span(traceparents, texts(getter.get(carrier, "tracestate")))
        return context if span is None else trace_api.set_span_in_context(span, context)

    def inject(
        self,
        carrier: Any,
        context: Context | None = None,
        setter: Setter[Any] = CARRIER_SETTER,
    ) -> None:
        trace_id, span_id, flags, state = identity(trace_api.get_current_span(context))
        if not trace_id:
            return
        setter.set(carrier, "traceparent", format_traceparent(trace_id, span_id, flags))
        if state:
            setter.set(carrier, "tracestate", state.to_header())
        elif setter is CARRIER_SETTER:
            # A tracestate left over in the carrier belongs to another trace.
            carriers.remove(carrier, "tracestate")

    @property
    def fields(self) -> set[str]:
        return {"traceparent", "tracestate"}


class BaggagePropagator(TextMapPropagator):
    """``baggage``."""

    def extract(
        self,
        carrier: Any,
        context: Context | None = None,
        getter: Getter[Any] = CARRIER_GETTER,
    ) -> Context:
        if context is None:
            context = Context()
        for name, value in parse_baggage(texts(getter.get(carrier, "baggage"))).items():
            context = baggage_api.set_baggage(name, value, context)
        return context

    def inject(
        self,
        carrier: Any,
        context: Context | None = None,
        setter: Setter[Any] = CARRIER_SETTER,
    ) -> None:
        entries = baggage_api.get_all(context)
        if entries and (header := format_baggage(entries)):
            setter.set(carrier, "baggage", header)

    @property
    def fields(self) -> set[str]:
        return {"baggage"}


_OURS: dict[str, Callable[[], TextMapPropagator]] = {
    "tracecontext": TraceContextPropagator,
    "baggage": BaggagePropagator,
}


class Propagator(TextMapPropagator):
    """Several propagators as one, applied in order. It goes wherever OpenTelemetry takes one.

    Whatever a header, a carrier or somebody else's propagator does, nothing is raised into the code
    that sends or receives: the trace then starts afresh, or stays on this side, and the log says
    so once.

    Where the interface hands over OpenTelemetry's default getter or setter, or none, every carrier
    of :mod:`asynctrace.propagation.carriers` is understood.
    """

    def __init__(self, propagators: Iterable[TextMapPropagator]) -> None:
        self._propagators = tuple(propagators)
        self._reported: set[tuple[str, str]] = set()
        kinds = [type(propagator) for propagator in self._propagators]
        # Plain attributes: integrations read them for each request.
        self.baggage: Final = BaggagePropagator in kinds
        """Whether W3C Baggage is among the formats."""
        self.w3c: Final = TraceContextPropagator in kinds and len(kinds) == 1 + self.baggage
        """Whether this is W3C Trace Context, alone or with W3C Baggage, and nothing else.

        An integration may then call ``remote_span`` and ``format_traceparent`` (and, if `baggage`,
        ``parse_baggage`` and ``format_baggage``) on its own headers directly.
        """

    @classmethod
    def from_names(cls, names: Iterable[str]) -> Propagator:
        """The propagators with these names, as ``OTEL_PROPAGATORS`` lists them.

        ``tracecontext`` and ``baggage`` are the ones of this module; ``none`` turns propagation
        off; any other is looked up among the installed ``opentelemetry_propagator`` entry points.

        Raises ConfigError for a name that nothing is installed for, and for one that fails to load.
        """
        wanted = list(dict.fromkeys(name.strip().lower() for name in names))
        return cls([] if "none" in wanted else map(_load, wanted))

    def extract(
        self,
        carrier: Any,
        context: Context | None = None,
        getter: Getter[Any] | None = None,
    ) -> Context:
        """`context` (by default an empty one) with what the carrier brings."""
        if getter is None or getter is default_getter:
            getter = CARRIER_GETTER
        if context is None:
            context = Context()
        for propagator in self._propagators:
            try:
                extracted = propagator.extract(carrier, context, getter)
                if not isinstance(extracted, Context):
                    raise TypeError(f"extract() returned {type(extracted).__name__}, not a Context")
                context = extracted
            except Exception as error:
                self.report(type(propagator).__name__, "extract", error)
        return context

    def inject(
        self,
        carrier: Any,
        context: Context | None = None,
        setter: Setter[Any] | None = None,
    ) -> None:
        """Put what `context` (by default the current one) has to propagate into the carrier."""
        if setter is None or setter is default_setter:
            setter = CARRIER_SETTER
        for propagator in self._propagators:
            try:
                propagator.inject(carrier, context, setter)
            except Exception as error:
                self.report(type(propagator).__name__, "inject", error)

    @property
    def fields(self) -> set[str]:
        """The names of all headers that `inject` may set."""
        return set().union(*(propagator.fields for propagator in self._propagators))

    def __repr__(self) -> str:
        kinds = ", ".join(type(propagator).__name__ for propagator in self._propagators)
        return f"<Propagator {kinds or 'none'}>"

    def report(self, who: str, what: str, error: Exception) -> None:
        """Log a failure, the first of its kind: what fails once, fails for every request."""
        if (who, what) in self._reported:
            return
        self._reported.add((who, what))
        _log.warning("%s failed to %s (reported once): %r", who, what, error)


def _load(name: str) -> TextMapPropagator:
    if name in _OURS:
        return _OURS[name]()
    # Slow to import, and needed for foreign propagators only.
    from importlib.metadata import entry_points

    installed = {
        entry.name.lower(): entry for entry in entry_points(group="opentelemetry_propagator")
    }
    if name not in installed:
        known = ", ".join(sorted({*installed, *_OURS, "none"}))
        remedy = f"use one of {known}, or install the package that provides {name!r}"
        raise ConfigError("OTEL_PROPAGATORS", name, remedy)
    try:
        propagator = installed[name].load()()
    except Exception as error:
        remedy = f"repair or remove its package, loading it failed: {error!r}"
        raise ConfigError("OTEL_PROPAGATORS", name, remedy) from error
    if not isinstance(propagator, TextMapPropagator):
        raise ConfigError("OTEL_PROPAGATORS", name, "its package provides no TextMapPropagator")
    return propagator

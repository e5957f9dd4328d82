"""``inject`` and ``extract``: one message's headers, by the propagator of this process."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator

from asynctrace.propagation.carriers import Carrier
from asynctrace.propagation.propagator import Propagator

__all__ = ["extract", "inject", "set_default"]

_default: Propagator | None = None
_of_opentelemetry: tuple[TextMapPropagator | None, Propagator] = (None, Propagator(()))


def set_default(propagator: TextMapPropagator | None) -> None:
    """What `inject` and `extract` use from now on; None goes back to OpenTelemetry's global one."""
    global _default
    _default = None if propagator is None else _contained(propagator)


def inject(carrier: Carrier, context: Context | None = None) -> None:
    """Put the current span (or that of `context`) and its baggage into `carrier`, to be sent.

    `carrier` is a dict, a multidict, ``httpx.Headers`` or another mutable mapping, or a list of
    (name, value) pairs. Headers of the same names are replaced, whatever their case. Names and
    values are written as ``str`` or ``bytes``, whichever the carrier's first entry has; an empty
    list gets (``str``, ``bytes``) as Kafka's clients want it.

    Never raises: nothing is put into what cannot be changed, and a warning is logged once.
    """
    _configured().inject(carrier, context)


def extract(carrier: Carrier | None, context: Context | None = None) -> Context:
    """`context` (by default an empty one) with the span and baggage that the sender put in.

    `carrier` is any mapping, multidict or list of (name, value) pairs, of ``str`` or ``bytes``;
    the case of names does not matter; None is an empty one. Never raises: what is missing or
    malformed is not taken over.
    """
    return _configured().extract(carrier, context)


def _configured() -> Propagator:
    """The default that was set, or else OpenTelemetry's global propagator, contained."""
    global _of_opentelemetry
    if _default is not None:
        return _default
    known, contained = _of_opentelemetry
    try:
        # Imported late, because importing it raises when OTEL_PROPAGATORS names one unknown to it.
        from opentelemetry.propagate import get_global_textmap

        current = get_global_textmap()
    except Exception as error:
        contained.report("the global propagator", "import", error)
        return contained
    if current is not known:
        contained = _contained(current)
        _of_opentelemetry = current, contained
    return contained


def _contained(propagator: TextMapPropagator) -> Propagator:
    return propagator if isinstance(propagator, Propagator) else Propagator((propagator,))

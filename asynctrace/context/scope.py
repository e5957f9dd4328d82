"""``span()``: a span around a block of code, current while the block runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol
from weakref import WeakKeyDictionary, ref

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util.types import AttributeValue

from asynctrace.context.current import ContextToken, attach, leave
from asynctrace.context.outcome import end_span
from asynctrace.trace import delegate

SCOPE_NAME = "asynctrace"

Attributes = Mapping[str, AttributeValue]


class HasTracerProvider(Protocol):
    """What a scope needs of a ``Tracing``."""

    @property
    def tracer_provider(self) -> trace_api.TracerProvider: ...


class SpanScope:
    """What :func:`span` returns: ``with`` or ``async with`` it, once.

    Entering starts the span and makes it current, leaving restores and ends it. It may be left in
    another task or context than it was entered in.
    """

    __slots__ = ("_attributes", "_base", "_kind", "_links", "_name", "_span", "_token", "_tracing")

    def __init__(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        links: Sequence[Link] = (),
        tracing: HasTracerProvider | None = None,
        base: Context | None = None,
    ) -> None:
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._links = links
        self._tracing = tracing
        self._base = base  # where parent and baggage come from; None: what is current at entry
        self._span: trace_api.Span = trace_api.INVALID_SPAN
        self._token: ContextToken | None = None

    def __enter__(self) -> trace_api.Span:
        tracer = active_tracer(self._tracing)
        if tracer is None:
            return self._span
        self._span = tracer.start_span(
            self._name, self._base, self._kind, self._attributes, self._links
        )
        self._token = attach(self._span, self._base)
        return self._span

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        if token is None:
            return
        leave(token, self._span)
        end_span(self._span, error)

    async def __aenter__(self) -> trace_api.Span:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, error, traceback)

    def __repr__(self) -> str:
        state = "entered" if self._token is not None else "not entered"
        return f"<span scope {self._name!r}, {state}>"


def links_to(span: trace_api.Span) -> tuple[Link, ...]:
    """A link to `span`, or none when it is no real one."""
    context = span.get_span_context()
    return (Link(context),) if context.is_valid else ()


def active_tracer(tracing: HasTracerProvider | None = None) -> trace_api.Tracer | None:
    """The tracer of `tracing`, or of the one that runs now; None when nothing runs."""
    provider = delegate.active() if tracing is None else tracing.tracer_provider
    if provider is None:
        return None
    known = _tracers.get(provider)
    tracer = known() if known is not None else None
    if tracer is None:
        tracer = provider.get_tracer(SCOPE_NAME)
        _tracers[provider] = ref(tracer)
    return tracer


# Because get_tracer is half of the cost of a span that is not sampled. Weak at both ends: a
# provider keeps its tracers itself, and a tracer may lead back to its provider.
_tracers: WeakKeyDictionary[trace_api.TracerProvider, ref[trace_api.Tracer]] = WeakKeyDictionary()


def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    links: Sequence[Link] = (),
    tracing: HasTracerProvider | None = None,
) -> SpanScope:
    """A span around a block of code::

        with asynctrace.span("price basket", attributes={"basket.size": 3}) as span:
            ...

    ``async with`` does the same. The block gets the span; one that records nothing when no tracing
    runs. `tracing` is the ``Tracing`` to use; by default the one that runs when the block is
    entered.

    An exception that leaves the block is recorded once, with ``error.type`` and status ERROR; a
    cancellation is no error and is told in ``asynctrace.cancellation.reason``: the span is then
    handed on a few steps of the loop later, with the time at which the block was left. Both pass
    through.
    A block may be left in another task or context than it was entered in. In a generator that
    yields inside the block, the span would stay current in the consumer's code: use
    :func:`asynctrace.traced` there.
    """
    return SpanScope(name, kind=kind, attributes=attributes, links=links, tracing=tracing)

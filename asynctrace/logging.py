"""Log records that say in which span they were written.

::

    asynctrace.logging.install()
    logging.basicConfig(format=asynctrace.logging.FORMAT)

============================  =====================================================================
`install`                     for every record of the process
`TraceFilter`                 for the records of one logger or handler
`TraceFormatter`              a formatter whose records have the fields in any case
`fields`                      what other logging libraries need: the fields as a dict
============================  =====================================================================

The fields are `FIELDS`: ``trace_id`` and ``span_id`` in hexadecimal, ``""`` outside of any span;
``trace_sampled``, whether the span is sent; and ``service``, the name of the running tracing's
service. They are those of the span that was current when the record was made, whichever thread
formats it.

An installed record keeps a reference to the span and works the fields out when it is formatted, or
when one of them is asked for: a record that no handler formats costs next to nothing. A handler
that sends a record's ``__dict__`` without formatting it (``SocketHandler``, ``DatagramHandler``,
``HTTPHandler``) does not ask: give it a :class:`TraceFilter`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from opentelemetry import trace as trace_api

from asynctrace.trace import delegate

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["FIELDS", "FORMAT", "TraceFilter", "TraceFormatter", "fields", "install", "uninstall"]

FIELDS = ("trace_id", "span_id", "trace_sampled", "service")
FORMAT = "%(asctime)s %(levelname)s %(name)s trace_id=%(trace_id)s span_id=%(span_id)s %(message)s"

# Formatters that print what is in a record's __dict__ leave out such names.
_SPAN = "_asynctrace_span"

_replaced: Callable[..., logging.LogRecord] | None = None


def fields(span: Span | None = None) -> dict[str, str | bool]:
    """The fields of `span`, by default of the current one."""
    context = (trace_api.get_current_span() if span is None else span).get_span_context()
    service = _service()
    if not context.is_valid:
        return {"trace_id": "", "span_id": "", "trace_sampled": False, "service": service}
    return {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "trace_sampled": bool(context.trace_flags & 1),
        "service": service,
    }


def install() -> None:
    """Give every log record of this process the fields. A second call does nothing.

    It sets the record factory of ``logging``, around the one that is there. Attributes of these
    names that `extra`, a filter, or that other factory sets take precedence.
    """
    global _replaced
    if _replaced is not None:
        return
    _replaced = logging.getLogRecordFactory()
    if _replaced is logging.LogRecord:
        logging.setLogRecordFactory(TracedRecord)
    else:
        logging.setLogRecordFactory(_Around(_replaced))


def uninstall() -> None:
    """Put back the record factory of before, unless somebody has replaced ours."""
    global _replaced
    factory = logging.getLogRecordFactory()
    if _replaced is not None and (factory is TracedRecord or isinstance(factory, _Around)):
        logging.setLogRecordFactory(_replaced)
    _replaced = None


class TracedRecord(logging.LogRecord):
    """A log record with the fields, worked out when they are wanted.

    Formatters read a record's ``__dict__``, but not before they have asked for the message.
    """

    # Beside the __dict__: what is in there, some formatters print.
    __slots__ = ("_span",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._span: Span | None = trace_api.get_current_span()

    def getMessage(self) -> str:  # noqa: N802 (logging's name)
        self._work_out()
        return super().getMessage()

    def __getattr__(self, name: str) -> Any:
        # Only called for what is not there.
        if name in FIELDS and self._span is not None:
            self._work_out()
            return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        self._work_out()
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._span = None

    def _work_out(self) -> None:
        # In this order, because another thread may be formatting the record, too.
        span = self._span
        if span is not None:
            _set_missing(self, span)
            self._span = None


class TraceFilter(logging.Filter):
    """Lets every record pass, and gives it the fields of the current span::

        handler.addFilter(asynctrace.logging.TraceFilter())

    Put it where the record is made: on a logger, or on a handler that is called there. An installed
    record has those of its own span, wherever that is.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        _fill(record)
        return True


class TraceFormatter(logging.Formatter):
    """A formatter, by default of `FORMAT`, whose records have the fields in any case.

    A record that comes without is given those of the current span.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        **kwargs: Any,
    ) -> None:
        # None is also what logging.config passes for a configuration that names no format.
        if fmt is None and style == "%":
            fmt = FORMAT
        super().__init__(fmt, datefmt, style, **kwargs)

    def format(self, record: logging.LogRecord) -> str:
        _fill(record)
        return super().format(record)


class _Around:
    """A record factory around one that somebody else has set."""

    def __init__(self, factory: Callable[..., logging.LogRecord]) -> None:
        self._factory = factory

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._factory(*args, **kwargs)
        if isinstance(record, TracedRecord):
            return record
        span = trace_api.get_current_span()
        try:
            record.__class__ = _waiting_kind(type(record))
        except TypeError:  # a class that cannot be derived from
            _set_missing(record, span)
        else:
            record.__dict__[_SPAN] = span
        return record


class _WaitingRecord(logging.LogRecord):
    """A record of somebody else's class, until its fields are wanted; then it is theirs again.

    The fields cannot be there from the start: ``logging`` refuses an `extra` of a name that is.
    """

    __slots__ = ()

    _kind: type[logging.LogRecord]

    def getMessage(self) -> str:  # noqa: N802 (logging's name)
        self._work_out()
        return self.getMessage()

    def __getattr__(self, name: str) -> Any:
        # Only called for what is not there.
        if name in FIELDS:
            self._work_out()
            return self.__dict__[name]
        theirs = getattr(self._kind, "__getattr__", None)
        if theirs is not None:
            return theirs(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        self._work_out()
        return self.__reduce_ex__(protocol)

    def _work_out(self) -> None:
        span = self.__dict__.get(_SPAN)
        if span is not None:
            _set_missing(self, span)
            self.__dict__.pop(_SPAN, None)
        self.__class__ = self._kind  # type: ignore[assignment]  # whose subclass this one is


_waiting_kinds: dict[type[logging.LogRecord], type[logging.LogRecord]] = {}


def _waiting_kind(kind: type[logging.LogRecord]) -> type[logging.LogRecord]:
    found = _waiting_kinds.get(kind)
    if found is None:
        found = type(kind.__name__, (_WaitingRecord, kind), {"__slots__": (), "_kind": kind})
        _waiting_kinds[kind] = found
    return found


def _fill(record: logging.LogRecord) -> None:
    if isinstance(record, (TracedRecord, _WaitingRecord)):
        record._work_out()  # those of its own span
    elif not hasattr(record, "trace_id"):
        _set_missing(record, trace_api.get_current_span())


def _set_missing(record: logging.LogRecord, span: Span) -> None:
    for name, value in fields(span).items():
        record.__dict__.setdefault(name, value)  # what `extra` or a filter has set stays


def _service() -> str:
    provider = delegate.active()
    return "" if provider is None else str(provider.resource.attributes.get("service.name", ""))

"""A request that is too large for its receiver, in two: pure, on the wire format alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from asynctrace.otlp.wire import DecodeError, Message, delimited

from .format import Record


class _Span(NamedTuple):
    """An encoded span, and the encoded fields that stand beside it for its scope and resource."""

    resource: bytes
    scope: bytes
    span: bytes


def halves(record: Record) -> tuple[Record, ...]:
    """The same spans in two requests; nothing when it is a single one, or no request."""
    try:
        spans = list(_spans(record.body))
    except DecodeError:
        return ()
    if len(spans) < 2:
        return ()
    middle = len(spans) // 2
    return tuple(
        Record(_join(half), len(half), record.end) for half in (spans[:middle], spans[middle:])
    )


def _spans(body: bytes) -> Iterator[_Span]:
    for resource_spans in map(Message, Message(body).messages(1)):
        resource = _description(resource_spans)
        for scope_spans in map(Message, resource_spans.messages(2)):
            scope = _description(scope_spans)
            for span in scope_spans.messages(2):
                yield _Span(resource, scope, span)


def _description(message: Message) -> bytes:
    """Resource or scope, and the URL of its schema: the same numbers in both messages."""
    return delimited(1, message.message(1)) + delimited(3, message.content(3))


def _join(spans: Iterable[_Span]) -> bytes:
    return b"".join(
        delimited(1, resource + _join_scopes(of_resource))
        for resource, of_resource in groupby(spans, key=lambda span: span.resource)
    )


def _join_scopes(spans: Iterable[_Span]) -> bytes:
    return b"".join(
        delimited(2, scope + b"".join(delimited(2, span.span) for span in of_scope))
        for scope, of_scope in groupby(spans, key=lambda span: span.scope)
    )

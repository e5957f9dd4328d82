"""Which span is current: make one so, and take it back without noise.

These functions are on the path of every request. They stay inside OpenTelemetry's context, so every
other instrumentation sees the same current span, and they use public names only: the key under
which a span is kept, and the context variable behind, are read off what the API itself returns.

``opentelemetry.context.detach`` logs an ERROR when a scope is left in another context than the one
that it was entered in. That happens to correct programs (an abandoned async generator is closed by
the event loop in a task of its own), and there is nothing to restore there; ours says nothing.
"""

from __future__ import annotations

import contextvars
from contextvars import ContextVar, Token
from typing import TypeAlias

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as trace_api
from opentelemetry.context import Context

ContextToken: TypeAlias = "Token[Context]"

[SPAN_KEY] = trace_api.set_span_in_context(trace_api.INVALID_SPAN, Context())


def _find_variable() -> ContextVar[Context] | None:
    """The variable behind ``opentelemetry.context``.

    None when the runtime context was replaced (``OTEL_PYTHON_CONTEXT``) by one that keeps its state
    elsewhere; then everything goes through the public functions.
    """
    probe = Context(otel_context.get_current())
    token = otel_context.attach(probe)
    try:
        variable: object = getattr(token, "var", None)
        if isinstance(variable, ContextVar) and variable.get(None) is probe:
            return variable
        return None
    finally:
        otel_context.detach(token)


VARIABLE = _find_variable()
"""With `SPAN_KEY` and `NOTHING` for those who look at each request, and do in line what is here."""
NOTHING = Context()


def current_context() -> Context:
    """What is current in this task or thread, with one call instead of the API's three."""
    return otel_context.get_current() if VARIABLE is None else VARIABLE.get(NOTHING)


def span_of(context: Context) -> trace_api.Span | None:
    """The span that `context` has current, of any make; None when it has none."""
    # Only spans are kept under the key. OpenTelemetry's own function checks that, and costs more.
    return context.get(SPAN_KEY)  # type: ignore[return-value]


def span_in(context: contextvars.Context) -> trace_api.Span | None:
    """The span that is current in a `context` which another thread may be running in just now."""
    found = None if VARIABLE is None else context.get(VARIABLE)
    return None if found is None else span_of(found)


def attach(span: trace_api.Span, context: Context | None = None) -> ContextToken:
    """Make `span` current in this task or thread, until :func:`detach` is given the token.

    `context` is what the rest (baggage, say) is taken from; by default what is current now.
    """
    if VARIABLE is None:
        return otel_context.attach(trace_api.set_span_in_context(span, context))
    before = VARIABLE.get(NOTHING) if context is None else context
    if not before:  # a server's request begins with nothing
        return VARIABLE.set(Context({SPAN_KEY: span}))
    values = before.copy()
    values[SPAN_KEY] = span
    return VARIABLE.set(Context(values))


def attach_context(context: Context) -> ContextToken:
    """Make a whole `context` current, until :func:`detach` is given the token."""
    return otel_context.attach(context)


def detach(token: ContextToken) -> None:
    """Restore what was current before the token's ``attach``.

    Does nothing, quietly, in another context than that of ``attach``, or with a token used before.
    """
    # In line what `_reset` does, because this runs at the end of every request.
    if VARIABLE is None:
        otel_context.detach(token)
        return
    try:
        VARIABLE.reset(token)
    except (ValueError, RuntimeError):
        pass


def leave(token: ContextToken, span: trace_api.Span) -> None:
    """:func:`detach`, for a scope that may be left in a context to which it was carried.

    A context copied (or saved and attached again) while `span` was current still has it current;
    there, what was current before `span` becomes so again.
    """
    if not _reset(token) and trace_api.get_current_span() is span:
        outer = token.old_value
        otel_context.attach(outer if isinstance(outer, Context) else Context())


def without_span(context: Context | None = None) -> Context:
    """The baggage of `context`, by default of the current one, and nothing else of it."""
    bare = Context()
    for name, value in baggage.get_all(context).items():
        bare = baggage.set_baggage(name, value, bare)
    return bare


def _reset(token: ContextToken) -> bool:
    if VARIABLE is None:
        otel_context.detach(token)
        return True
    try:
        VARIABLE.reset(token)
    except (ValueError, RuntimeError):
        # ValueError: made in another context. RuntimeError: used already.
        return False
    return True

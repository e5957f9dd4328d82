"""Whether somebody asked OpenTelemetry's instrumentations to keep quiet here.

The public question is `opentelemetry.instrumentation.utils.is_http_instrumentation_enabled`. Asking
it takes three look-ups per request, and importing it takes 30 ms, so the keys that it looks up are
looked up directly; where an OpenTelemetry has moved them, it is asked after all.
"""

from __future__ import annotations

from opentelemetry.context import Context

try:
    from opentelemetry.context import (
        _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
        _SUPPRESS_INSTRUMENTATION_KEY,
    )
except ImportError:  # pragma: no cover

    def is_suppressed(context: Context) -> bool:
        from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled

        return not is_http_instrumentation_enabled()
else:

    def is_suppressed(context: Context) -> bool:
        """Whether no span is to be made, and no header sent, in this context."""
        return bool(
            context.get(_SUPPRESS_HTTP_INSTRUMENTATION_KEY)
            or context.get(_SUPPRESS_INSTRUMENTATION_KEY)
            or context.get("suppress_instrumentation")  # from before the keys were unique
        )

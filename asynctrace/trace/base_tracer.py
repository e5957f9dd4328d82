"""What our tracers have in common: all of the SDK's interface that is said in terms of the rest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.util.instrumentation import InstrumentationInfo, InstrumentationScope
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util.types import Attributes

from .current import CurrentSpan


class BaseTracer(SdkTracer):
    """See `opentelemetry.trace.Tracer`. Its subclasses say how a span is started.

    What mypy is told to ignore: a property stands for an attribute of the SDK's, and the context
    manager that is returned is a class of ours, which is a decorator of async functions, too.
    """

    _instrumentation_scope: InstrumentationScope

    @property
    def instrumentation_info(self) -> InstrumentationInfo:  # type: ignore[override]
        """Deprecated by OpenTelemetry: use the `instrumentation_scope` of a span."""
        scope = self._instrumentation_scope
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # whoever asks has been told
            return InstrumentationInfo(scope.name, scope.version, scope.schema_url)

    def start_as_current_span(  # type: ignore[override]
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> CurrentSpan:
        """A context manager, or decorator, that starts a span and makes it current.

        As a decorator it starts one for every call, by the provider that is active then.
        """
        return CurrentSpan(
            partial(
                self.start_span,
                name,
                context,
                kind,
                attributes,
                links,
                start_time,
                record_exception,
                set_status_on_exception,
            ),
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
            end_on_exit=end_on_exit,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._instrumentation_scope.name!r})"

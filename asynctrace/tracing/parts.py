"""From settings to the parts that are made of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from opentelemetry.sdk.resources import Resource

from asynctrace.config import Config
from asynctrace.export.ended import BURST
from asynctrace.propagation import Propagator
from asynctrace.trace.fallback import FallbackProvider, self_check
from asynctrace.trace.provider import TracerProvider
from asynctrace.trace.sink import SpanSink

logger = logging.getLogger("asynctrace")


def provider(config: Config, resource: Resource, sink: SpanSink) -> TracerProvider:
    """Ours; with the SDK's own tracers where ours do not fit the installed SDK."""
    kind: Callable[..., TracerProvider] = TracerProvider
    error = self_check()
    if error is not None:
        logger.warning(
            "The tracers of asynctrace do not fit the installed opentelemetry-sdk (%r); those of "
            "the SDK are used, at their cost. Hint: upgrade asynctrace.",
            error,
        )
        kind = FallbackProvider
    return kind(
        sampler=config.sampler,
        resource=resource,
        id_generator=config.id_generator,
        span_limits=config.span_limits,
        sink=sink,
        max_open_spans=config.max_open_spans,
        disabled=config.disabled,
    )


def burst(config: Config) -> int:
    """As large as it may be without being felt where batches or the queue are small."""
    return max(1, min(BURST, config.max_export_batch_size, config.max_queue_size // 8))


def propagator(config: Config) -> Propagator:
    given = config.propagators
    if isinstance(given, Propagator):
        return given
    return Propagator.from_names(given) if isinstance(given, tuple) else Propagator((given,))

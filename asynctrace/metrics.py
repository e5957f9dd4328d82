"""The few metrics that the integrations record; free when the process has no meter provider.

OpenTelemetry's API hands out instruments that do nothing until a provider is set. To fill in their
attributes would still cost, so whoever records asks `meter()` first and keeps the answer.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol
from weakref import WeakSet

import opentelemetry.metrics._internal as _api
from opentelemetry import metrics
from opentelemetry.metrics import Meter, MeterProvider, NoOpMeterProvider

from asynctrace import semconv

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


def meter(name: str, provider: MeterProvider | None = None) -> Meter | None:
    """A meter of `provider`, by default of the process's; None when nothing would be recorded."""
    if provider is None:
        provider = metrics.get_meter_provider()
    if isinstance(provider, NoOpMeterProvider) or _is_placeholder(provider):
        return None
    return provider.get_meter(name, schema_url=semconv.SCHEMA_URL)


def process_provider() -> MeterProvider | None:
    """The process's meter provider, None while none is set: by it a change is noticed.

    Asked at each request, where the public function would search the environment each time. Where
    the private name has moved, the public one is asked after all.
    """
    try:
        return _api._METER_PROVIDER
    except AttributeError:
        return metrics.get_meter_provider()


class ProviderListener(Protocol):
    """Who does not ask for the process's meter provider each time."""

    def on_meter_provider(self, provider: MeterProvider) -> None:
        """The process has this one from now on. Raises nothing; called once, in any thread."""


def announce_to(listener: ProviderListener) -> None:
    """Tell `listener`, held weakly, when the process's meter provider is set.

    The API tells nobody but its own placeholders for meters, so one of ours stands among them. By a
    private name; where it has moved, a provider that is set later is not noticed.
    """
    _placeholder.listeners.add(listener)
    placeholders: object = getattr(_api._PROXY_METER_PROVIDER, "_meters", None)
    if isinstance(placeholders, list) and _placeholder not in placeholders:
        placeholders.append(_placeholder)


class _Placeholder:
    """Passes on what the API's placeholders for meters are told."""

    def __init__(self) -> None:
        self.listeners: WeakSet[ProviderListener] = WeakSet()

    def on_set_meter_provider(self, provider: MeterProvider) -> None:
        for listener in tuple(self.listeners):
            listener.on_meter_provider(provider)


_placeholder: Final = _Placeholder()


def _is_placeholder(provider: MeterProvider) -> bool:
    """Whether no provider has been set. Public names do not tell; when the private one moves, its
    instruments do nothing, and all that is lost is time.
    """
    return type(provider).__name__ == "_ProxyMeterProvider"


class ServerMetrics:
    """What a server records of each request, by the stable conventions where there are any."""

    __slots__ = ("_active", "_duration", "_request_size", "_response_size")

    def __init__(self, meter: Meter) -> None:
        self._duration = meter.create_histogram(
            semconv.SERVER_REQUEST_DURATION,
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._active = meter.create_up_down_counter(
            semconv.SERVER_ACTIVE_REQUESTS,
            unit="{request}",
            description="Number of active HTTP server requests.",
        )
        self._request_size = meter.create_histogram(
            semconv.SERVER_REQUEST_BODY_SIZE,
            unit="By",
            description="Size of HTTP server request bodies.",
        )
        self._response_size = meter.create_histogram(
            semconv.SERVER_RESPONSE_BODY_SIZE,
            unit="By",
            description="Size of HTTP server response bodies.",
        )

    def begin(self, method: str, scheme: str) -> None:
        """A request has arrived."""
        self._active.add(1, _kind(method, scheme))

    def end(
        self,
        method: str,
        scheme: str,
        seconds: float,
        attributes: semconv.Attributes,
        request_size: int | None,
        response_size: int | None,
    ) -> None:
        """The same request is over. `attributes` are those of the duration beside its kind."""
        kind = _kind(method, scheme)
        self._active.add(-1, kind)
        described: semconv.Attributes = {**kind, **attributes}
        self._duration.record(seconds, described)
        if request_size is not None:
            self._request_size.record(request_size, described)
        if response_size is not None:
            self._response_size.record(response_size, described)


class ClientMetrics:
    """What a client records of each request."""

    __slots__ = ("_duration", "_late")

    def __init__(self, meter: Meter) -> None:
        self._duration = meter.create_histogram(
            semconv.CLIENT_REQUEST_DURATION,
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._late: deque[tuple[float, semconv.Attributes]] = deque()

    def record(self, seconds: float, attributes: semconv.Attributes) -> None:
        """A request is over."""
        self._duration.record(seconds, attributes)
        self.record_late()

    def record_later(self, seconds: float, attributes: semconv.Attributes) -> None:
        """The same from a finalizer, which must not take an instrument's lock: the code that it
        interrupts may hold it. Recorded with the next request, or by :meth:`record_late`.
        """
        self._late.append((seconds, attributes))

    def record_late(self) -> None:
        """Record what finalizers have left."""
        while self._late:
            try:
                late = self._late.popleft()
            except IndexError:  # another thread was faster
                return
            self._duration.record(*late)


def _kind(method: str, scheme: str) -> dict[str, str]:
    return {semconv.HTTP_REQUEST_METHOD: method, semconv.URL_SCHEME: scheme}

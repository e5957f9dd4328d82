"""What breaks in our code, or in a tracer that is not ours, stays away from the request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import ModuleType

import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.aiohttp import _exchange, _middleware, _server, setup
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import Recorder, Service, Serving, app_of


async def _handler(request: web.Request) -> web.Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"fine"

    if request.query_string == "fail":
        raise ValueError("theirs")
    if request.query_string == "stream":
        return web.Response(body=body())
    return web.Response(text="fine")


async def _ask_everything(service: Service) -> None:
    assert await service.fetch("/") == (200, "fine")
    assert await service.fetch("/?stream") == (200, "fine")
    assert await service.status("/?fail") == 500
    assert await service.fetch("/", headers={"baggage": "a=b"}) == (200, "fine")


@pytest.mark.may_block("writes log lines")
@pytest.mark.parametrize(
    ("module", "broken"),
    [
        (_middleware, "caller_of"),
        (_middleware, "attach"),
        (_middleware, "_SENT"),
        (_exchange, "tell"),
        (_exchange, "is_one_write"),
        (_exchange, "was_sent"),
        (_exchange, "of_response"),
        (_exchange, "of_exception"),
    ],
)
async def test_a_fault_of_ours_does_not_reach_the_request(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch, module: ModuleType, broken: str
) -> None:
    """Wherever our code breaks: the request is answered, the span ends, the fault is counted."""

    def fail(*_args: object, **_options: object) -> object:
        raise RuntimeError("ours")

    app = app_of(_handler)
    setup(app, tracing)
    async with Serving(app) as service:
        await _ask_everything(service)
        assert tracing.statistics().faults == {}
        monkeypatch.setattr(module, broken, fail)
        await _ask_everything(service)
        monkeypatch.undo()
        await _ask_everything(service)
    assert sum(tracing.statistics().faults.values()) >= 1
    assert tracing.open_spans() == ()
    assert trace.get_current_span() is trace.INVALID_SPAN


class Failing(SpanProcessor):
    """A processor that raises, as the SDK lets it."""

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("theirs")


def _use_tracer_of_sdk(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch, processor: SpanProcessor
) -> None:
    """As `init` does when our tracer does not fit the SDK that is installed."""
    provider = SdkTracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    monkeypatch.setattr(tracing, "get_tracer", lambda *_args, **_options: provider.get_tracer("x"))


async def test_a_tracer_of_the_sdk_is_used_by_its_public_methods(
    tracing: Tracing, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spans say the same."""
    _use_tracer_of_sdk(tracing, monkeypatch, recorder)
    app = app_of(_handler)
    setup(app, tracing)
    async with Serving(app) as service:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await service.status("/", headers={"traceparent": parent, "baggage": "a=b"})
        await _ask_everything(service)
        spans = await recorder.take(5)
    child, plain, stream, failed, _ = spans
    assert child.parent is not None
    assert child.parent.span_id == 0xB7AD6B7169203331
    assert plain.parent is stream.parent is failed.parent is None
    assert {(span.name, span.kind) for span in spans} == {("GET /", SpanKind.SERVER)}
    codes = [(span.attributes or {})["http.response.status_code"] for span in spans]
    assert codes == [200, 200, 200, 500, 200]
    assert failed.status.status_code is StatusCode.ERROR
    assert [event.name for event in failed.events] == ["exception"]


@pytest.mark.may_block("writes log lines")
async def test_a_failing_processor_of_the_sdk_does_not_reach_the_request(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK lets through what a processor raises; we do not."""
    _use_tracer_of_sdk(tracing, monkeypatch, Failing())
    app = app_of(_handler)
    setup(app, tracing)
    async with Serving(app) as service:
        await _ask_everything(service)
    assert tracing.statistics().faults != {}


@pytest.mark.may_block("writes a log line")
async def test_a_fault_without_a_provider_of_ours_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is nobody to count it then."""
    app = web.Application()
    setup(app)
    app[_server.KEY].fault("somewhere", RuntimeError("ours"))
    assert caplog.messages == [
        "somewhere failed with RuntimeError: ours; tracing goes on without it"
    ]


@pytest.mark.may_block("writes log lines")
async def test_a_request_that_cannot_be_described_has_a_span(
    tracing: Tracing, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a transport that has an odd idea of its client, say: all but the attributes is told."""

    def fail(_request: web.Request) -> str:
        raise IndexError("ours")

    monkeypatch.setattr(web.Request, "remote", property(fail))
    app = app_of(_handler)
    setup(app, tracing)
    async with Serving(app) as service:
        assert await service.fetch("/") == (200, "fine")
    span = await recorder.one()
    assert span.attributes == {"http.response.status_code": 200}
    assert tracing.statistics().faults["attributes"] >= 1

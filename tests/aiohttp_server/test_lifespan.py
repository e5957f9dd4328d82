"""An application that owns its tracing: started before, and shut down after, everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from opentelemetry import trace

from asynctrace._lifecycle import State
from asynctrace.aiohttp import setup
from asynctrace.aiohttp._server import KEY
from asynctrace.errors import ConfigError
from asynctrace.initialization import init
from asynctrace.tracing import Tracing, running
from tests.aiohttp_server.harness import Recorder, Serving, app_of, ok


def _owned(app: web.Application) -> Tracing:
    tracing = app[KEY].tracing
    assert tracing is not None
    return tracing


class Work:
    """Makes a span wherever an application calls the user's code, and lists whether it counted."""

    def __init__(self, app: web.Application) -> None:
        self.app = app
        self.counted: dict[str, bool] = {}

    def do(self, name: str) -> None:
        tracing = self.app[KEY].tracing
        self.counted[name] = tracing is not None and tracing.state is State.RUNNING

    def handler(self, name: str) -> Callable[[web.Application], Awaitable[None]]:
        async def handle(_app: web.Application) -> None:
            self.do(name)

        return handle

    def context(self, name: str) -> Callable[[web.Application], AsyncIterator[None]]:
        async def enter(_app: web.Application) -> AsyncIterator[None]:
            self.do(f"{name} start")
            yield
            self.do(f"{name} exit")

        return enter

    def add(self, app: web.Application, name: str) -> None:
        """Something in every place of an application's life."""
        app.on_startup.append(self.handler(f"{name} on_startup"))
        app.cleanup_ctx.append(self.context(f"{name} cleanup_ctx"))
        app.on_shutdown.append(self.handler(f"{name} on_shutdown"))
        app.on_cleanup.append(self.handler(f"{name} on_cleanup"))


async def test_tracing_lives_from_before_the_first_to_after_the_last(recorder: Recorder) -> None:
    """Everything in the application, and in its sub-applications, happens while tracing runs."""
    app = web.Application()
    work = Work(app)
    work.add(app, "before setup")
    setup(app, service_name="shop", exporter="none", span_processors=[recorder])
    work.add(app, "after setup")
    inner, innermost = web.Application(), web.Application()
    work.add(inner, "inner")
    work.add(innermost, "innermost")
    inner.add_subapp("/x", innermost)
    app.add_subapp("/inner", inner)
    work.add(app, "after joining")
    assert running() is None
    async with Serving(app) as service:
        tracing = _owned(app)
        assert running() is tracing
        assert tracing.config.service_name == "shop"
        await service.status("/")
    assert tracing.state is State.CLOSED
    assert running() is None
    assert app[KEY].tracing is None
    assert len(recorder.spans) == 1
    assert len(work.counted) == 5 * 5
    assert [name for name, counted in work.counted.items() if not counted] == []


@pytest.mark.may_block("writes a log line")
@pytest.mark.parametrize("order", ["setup first", "setup last"])
async def test_an_owner_that_is_joined_to_another_application(
    order: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All of its own clean-ups are covered when setup() came last; otherwise a log line says so."""
    outer, app = web.Application(), web.Application()
    work = Work(app)
    if order == "setup first":
        setup(app, exporter="none")
        work.add(app, "own")
    else:
        work.add(app, "own")
        setup(app, exporter="none")
    outer.add_subapp("/app", app)
    with caplog.at_level(logging.WARNING, "asynctrace"):
        async with Serving(outer) as service:
            tracing = _owned(app)
            await service.status("/app/")
    assert tracing.state is State.CLOSED
    lost = [name for name, counted in work.counted.items() if not counted]
    if order == "setup last":
        assert (lost, caplog.messages) == ([], [])
    else:
        assert lost == ["own on_cleanup"]
        [message] = caplog.messages
        assert "Call setup() last" in message


async def test_a_failed_start_leaves_nothing_running() -> None:
    """Whatever raises after tracing was started, it is shut down."""
    app = web.Application()
    setup(app, exporter="none")
    started: list[Tracing] = []

    async def fail(_app: web.Application) -> None:
        started.append(_owned(app))
        raise RuntimeError("no database")

    app.on_startup.append(fail)
    with pytest.raises(RuntimeError, match="no database"):
        async with Serving(app):
            pass
    assert [tracing.state for tracing in started] == [State.CLOSED]
    assert running() is None


@pytest.mark.may_block("looks for the exporter among what is installed")
async def test_a_start_that_cannot_work_fails_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that cannot be used stops the application from starting."""
    app = web.Application()
    setup(app)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "pigeon")
    with pytest.raises(ConfigError, match="pigeon"):
        async with Serving(app):
            pass
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    assert running() is None


async def test_without_options_the_running_one_is_used(recorder: Recorder) -> None:
    """Looked up for each request, so it may end, and another begin, while the application runs."""
    app = app_of(ok)
    setup(app)
    first = await init(exporter="none", span_processors=[recorder])
    async with Serving(app) as service:
        await service.status("/")
        assert len(recorder.spans) == 1
        await first.shutdown()
        assert await service.status("/") == 200
        assert len(recorder.spans) == 1  # none runs, none is traced
        async with init(exporter="none", span_processors=[recorder]):
            await service.status("/")
        assert len(recorder.spans) == 2
    assert app[KEY].tracing is None


async def test_without_options_and_none_running_it_owns_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the environment; it is the global one, and ends with the application."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from the environment")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    app = app_of(ok)
    setup(app)
    async with Serving(app):
        tracing = running()
        assert tracing is _owned(app)
        assert tracing.config.service_name == "from the environment"
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    assert tracing.state is State.CLOSED


async def test_with_options_beside_a_running_one_it_is_independent(recorder: Recorder) -> None:
    """The spans go to its own; the global one stays what it was, and stays open."""
    app = app_of(ok)
    setup(app, service_name="own", exporter="none", span_processors=[recorder])
    others = Recorder()
    async with init(exporter="none", span_processors=[others]) as tracing:
        async with Serving(app) as service:
            assert running() is tracing
            assert _owned(app) is not tracing
            await service.status("/")
        assert tracing.state is State.RUNNING
    assert (len(recorder.spans), len(others.spans)) == (1, 0)


async def test_a_given_tracing_is_not_closed(tracing: Tracing, recorder: Recorder) -> None:
    """Somebody else owns it."""
    app = app_of(ok)
    setup(app, tracing)
    async with Serving(app) as service:
        await service.status("/")
    assert tracing.state is State.RUNNING
    assert len(recorder.spans) == 1


async def test_several_applications_have_a_tracing_each() -> None:
    """Applications in one process that were set up with options do not meet."""
    recorders = [Recorder(), Recorder()]
    apps = [app_of(ok), app_of(ok)]
    for number, (app, recorder) in enumerate(zip(apps, recorders, strict=True)):
        setup(app, service_name=f"s{number}", exporter="none", span_processors=[recorder])
    async with Serving(apps[0]) as first, Serving(apps[1]) as second:
        await first.status("/")
        await second.status("/")
        await second.status("/")
    assert [len(recorder.spans) for recorder in recorders] == [1, 2]
    assert [
        {span.resource.attributes["service.name"] for span in recorder.spans}
        for recorder in recorders
    ] == [{"s0"}, {"s1"}]


async def test_no_tracing_leaves_the_application_as_it_is() -> None:
    """An application that was not started, and so owns nothing, works untraced."""
    from aiohttp.test_utils import make_mocked_request

    seen: list[object] = []

    async def handler(_request: web.Request) -> web.Response:
        seen.append(trace.get_current_span())
        raise web.HTTPGone

    app = app_of(handler)
    setup(app)
    app.freeze()
    with pytest.raises(web.HTTPGone):
        await app._handle(make_mocked_request("GET", "/", app=app))
    assert seen == [trace.INVALID_SPAN]


async def test_cleanup_called_twice_and_a_second_life(recorder: Recorder) -> None:
    """The same application, started again by another runner, is traced again."""
    app = app_of(ok)
    setup(app, exporter="none", span_processors=[recorder])
    for _ in range(2):
        serving = Serving(app)
        async with serving as service:
            await service.status("/")
        await app.cleanup()
        await asyncio.sleep(0)
    assert len(recorder.spans) == 2
    assert running() is None

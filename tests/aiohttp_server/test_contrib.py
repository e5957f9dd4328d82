"""OpenTelemetry contrib beside ours, or in its place: a request has one span."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from aiohttp import web
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor

from asynctrace.aiohttp import setup
from asynctrace.aiohttp._server import KEY, SCOPE_NAME
from asynctrace.errors import ConfigError
from asynctrace.initialization import init
from tests.aiohttp_server.harness import Recorder, Serving, app_of, ok

CONTRIB = "opentelemetry.instrumentation.aiohttp_server"


@pytest.fixture
def contrib() -> Iterator[None]:
    """Contrib's instrumentor is active, as `opentelemetry-instrument` makes it."""
    AioHttpServerInstrumentor().instrument()
    yield
    AioHttpServerInstrumentor().uninstrument()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.Application, "__init_subclass__", lambda: None)


def _scopes(recorder: Recorder) -> list[str]:
    return [span.instrumentation_scope.name for span in recorder.spans]


@pytest.mark.may_block("imports contrib when the application starts")
async def test_contrib_as_the_engine(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spans and names, through our lifecycle and pipeline; also for nested applications."""
    inner, outer = app_of(ok, "/x/{id}"), web.Application()
    outer.add_subapp("/inner", inner)
    setup(outer, service_name="s", exporter="none", span_processors=[recorder], engine="contrib")
    async with Serving(outer) as service:
        assert await service.status("/inner/x/1") == 200
    [span] = recorder.spans
    assert _scopes(recorder) == [CONTRIB]
    assert (span.attributes or {})["http.method"] == "GET"
    assert span.resource.attributes["service.name"] == "s"


async def test_applications_have_engines_of_their_own(recorder: Recorder) -> None:
    """Each by its Tracing, in one process."""
    other = Recorder()
    async with (
        init(set_global=False, exporter="none", span_processors=[recorder]) as ours,
        init(
            set_global=False, exporter="none", span_processors=[other], engine="contrib"
        ) as theirs,
    ):
        one, two = app_of(ok), app_of(ok)
        setup(one, ours)
        setup(two, theirs)
        for app in (one, two):
            async with Serving(app) as service:
                await service.status("/")
    assert (_scopes(recorder), _scopes(other)) == ([SCOPE_NAME], [CONTRIB])
    assert repr(two[KEY].instead) == "<ContribEngine>"


async def test_contrib_as_the_engine_has_no_options_of_ours() -> None:
    """They would silently do nothing."""
    with pytest.raises(ConfigError, match="skip"):
        setup(web.Application(), engine="contrib", skip=["/health"])


@pytest.mark.may_block("writes a log line")
async def test_contrib_found_in_an_application_is_taken_out(
    contrib: None, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set up with ours, so ours makes the span, and the log says so."""
    caplog.set_level(logging.INFO, "asynctrace")
    app = app_of(ok)
    assert len(app.middlewares) == 1
    setup(app, exporter="none", span_processors=[recorder])
    async with Serving(app) as service:
        await service.status("/")
    assert _scopes(recorder) == [SCOPE_NAME]
    assert "is traced by asynctrace" in caplog.text


@pytest.mark.may_block("writes a log line")
async def test_contrib_found_in_an_inner_application_makes_the_span(
    contrib: None, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp lets nobody change it any more: ours stands back, and the log says so once."""
    caplog.set_level(logging.INFO, "asynctrace")
    inner = app_of(ok)
    AioHttpServerInstrumentor().uninstrument()
    outer = app_of(ok)
    outer.add_subapp("/inner", inner)
    setup(outer, exporter="none", span_processors=[recorder])
    async with Serving(outer) as service:
        for path in ("/inner/", "/inner/", "/"):
            await service.status(path)
    AioHttpServerInstrumentor().instrument()
    assert _scopes(recorder) == [CONTRIB, CONTRIB, SCOPE_NAME]
    assert caplog.text.count("asynctrace stands back") == 1


@pytest.mark.may_block("writes a log line")
async def test_setup_before_joining_leaves_one_span_at_any_depth(
    contrib: None, recorder: Recorder
) -> None:
    """Where contrib stands in several joined applications it traces in each, as it does alone; so
    the inner ones are set up before they are joined.
    """
    inner, middle, outer = app_of(ok), app_of(ok), app_of(ok)
    for app, joined, path in ((inner, None, ""), (middle, inner, "/inner"), (outer, middle, "/m")):
        setup(app, exporter="none", span_processors=[recorder])
        if joined is not None:
            app.add_subapp(path, joined)
    async with Serving(outer) as service:
        for path in ("/m/inner/", "/m/", "/"):
            assert await service.status(path) == 200
    assert _scopes(recorder) == [SCOPE_NAME] * 3


async def test_one_engine_is_named_when_contrib_is_asked_for_and_active(
    contrib: None, recorder: Recorder
) -> None:
    """Contrib's own settings are used; there is still one span."""
    async with init(
        set_global=False, exporter="none", span_processors=[recorder], engine="contrib"
    ) as tracing:
        app = app_of(ok)
        setup(app, tracing)
        async with Serving(app) as service:
            await service.status("/")
    assert _scopes(recorder) == [CONTRIB]

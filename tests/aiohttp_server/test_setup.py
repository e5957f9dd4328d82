"""What setup() accepts, and what it does to an application."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest
from aiohttp import web

from asynctrace.aiohttp import setup
from asynctrace.aiohttp._server import KEY
from asynctrace.errors import ConfigError
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import Handler, Recorder, Serving, app_of, ok


@web.middleware
async def passing(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request)  # type: ignore[misc, no-any-return]


@pytest.mark.parametrize("container", [(), (passing,), [passing], iter([passing])])
async def test_any_container_of_middlewares_works(
    tracing: Tracing, recorder: Recorder, container: object
) -> None:
    """A tuple, a list, an iterator, or none at all."""
    app = app_of(ok, middlewares=container)
    setup(app, tracing)
    app.middlewares.append(passing)
    async with Serving(app) as service:
        assert await service.fetch("/") == (200, "fine")
    await recorder.one()


async def test_old_style_middlewares_work(tracing: Tracing, recorder: Recorder) -> None:
    """aiohttp then builds the chain anew for each request."""

    async def factory(_app: web.Application, handler: Handler) -> Handler:
        return handler

    app = app_of(ok, middlewares=[factory])
    setup(app, tracing)
    with pytest.warns(DeprecationWarning, match="old-style middleware"):
        app.freeze()
    async with Serving(app) as service:
        assert await service.fetch("/") == (200, "fine")
    await recorder.one()


async def test_set_up_twice_it_traces_once(tracing: Tracing, recorder: Recorder) -> None:
    """The same once more, or nothing more, changes nothing; not even on a running application."""
    app = app_of(ok)
    setup(app, tracing)
    setup(app, tracing)
    setup(app)
    async with Serving(app) as service:
        setup(app, tracing)
        await service.status("/")
    await recorder.one()
    assert len(app.middlewares) == 1


def test_set_up_twice_with_the_same_options_is_accepted() -> None:
    """Equal options are the same options."""
    app = web.Application()
    setup(app, service_name="a", headers={"x": "y"})
    setup(app, service_name="a", headers={"x": "y"})
    setup(app)
    assert len(app.middlewares) == 1


async def test_set_up_twice_in_different_ways_is_refused(tracing: Tracing) -> None:
    """The error names what differs, and keeps secrets."""
    app = web.Application()
    setup(app, service_name="a", headers={"authorization": "secret-1"})
    with pytest.raises(ConfigError) as caught:
        setup(app, headers={"authorization": "secret-2"})
    assert caught.value.setting == "headers"
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="set up already"):
        setup(app, tracing)
    with pytest.raises(ConfigError, match="set up already"):
        setup(app, shutdown_timeout=3.0)


def test_options_that_cannot_be_compared_are_not_the_same() -> None:
    """What raises on comparison does not raise out of setup()."""

    class Stubborn(dict[str, str]):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    app = web.Application()
    setup(app, headers=Stubborn())
    with pytest.raises(ConfigError):
        setup(app, headers=Stubborn())


async def test_what_is_no_application_or_no_tracing_is_refused(tracing: Tracing) -> None:
    """Each error says what is needed instead."""
    with pytest.raises(ConfigError, match=r"web\.Application"):
        setup(object(), tracing)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="options are keywords"):
        setup(web.Application(), "shop")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="options are keywords"):
        setup(web.Application(), tracing.tracer_provider)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give service_name to init"):
        setup(web.Application(), tracing, service_name="shop")


def test_options_are_checked_at_once() -> None:
    """Not only when the application starts; and nothing was done to it."""
    app = web.Application()
    with pytest.raises(ConfigError, match="servicename"):
        setup(app, servicename="shop")  # type: ignore[call-arg]
    with pytest.raises(ConfigError):
        setup(app, max_queue_size=-1)
    assert KEY not in app
    assert len(app.middlewares) == 0


async def test_a_joined_or_running_application_is_refused(tracing: Tracing) -> None:
    """It cannot be changed any more; the error says what to do."""
    inner, by_domain, outer = web.Application(), web.Application(), web.Application()
    outer.add_subapp("/inner", inner)
    outer.add_domain("x.example", by_domain)
    failed: list[ConfigError] = []

    async def too_late(app: web.Application) -> None:
        with pytest.raises(ConfigError) as caught:
            setup(app, tracing)
        failed.append(caught.value)

    outer.on_startup.append(too_late)
    async with Serving(outer):
        for app in (inner, by_domain, outer):
            with pytest.raises(ConfigError, match="before it is joined"):
                setup(app, tracing)
    assert "before the application is started" in failed[0].remedy


def test_setup_does_not_keep_an_application_alive() -> None:
    """Nor does it by anything it puts into it."""
    app = app_of(ok)
    setup(app, exporter="none")
    seen = weakref.ref(app)
    del app
    gc.collect()
    assert seen() is None


async def test_what_it_keeps_has_a_telling_repr(tracing: Tracing) -> None:
    """For whoever prints an application's state."""
    app, other = web.Application(), web.Application()
    setup(app, tracing)
    setup(other, service_name="a")
    assert "shop" in repr(app[KEY])
    assert "whichever runs" in repr(other[KEY])
    assert "owning nothing" in repr(other.on_cleanup[-1].__self__)  # type: ignore[attr-defined]
    assert all("object at" not in repr(value) for value in app._state.values())


_ORDERS = {
    "aiohttp first": "from aiohttp.web import Application\nimport asynctrace",
    "asynctrace first": "import asynctrace\nfrom aiohttp.web import Application",
    "the module": "import asynctrace.aiohttp\nfrom aiohttp.web import Application",
}


@pytest.mark.parametrize("imports", _ORDERS.values(), ids=_ORDERS)
def test_the_order_of_imports_does_not_matter(imports: str) -> None:
    """No class is replaced, whoever imported what first."""
    program = f"""{imports}
import asyncio
import aiohttp.web
import asynctrace
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Response
from opentelemetry.trace import get_current_span

assert Application is aiohttp.web.Application
assert Application.__module__ == "aiohttp.web_app"

async def handler(request):
    return Response(text=get_current_span().name)

async def main():
    app = Application()
    app.router.add_get("/", handler)
    asynctrace.setup(app, exporter="none")
    async with TestClient(TestServer(app)) as client:
        print(await (await client.get("/")).text())

asyncio.run(main())
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("GET /\n", "")

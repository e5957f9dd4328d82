"""Names are templates: of every kind of route, through nested applications, and without a route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from asynctrace import semconv
from asynctrace.aiohttp import setup
from asynctrace.aiohttp._request import Targets, address_of
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import Recorder, Service, Serving, app_of, get, ok


class View(web.View):
    async def get(self) -> web.Response:
        return web.Response()


def _application(folder: Path) -> web.Application:
    """Three applications below each other, and one by domain."""
    inner = web.Application()
    inner.router.add_get("/{leaf:[a-z]+}", ok)
    middle = web.Application()
    middle.router.add_get("/", ok)
    middle.add_subapp("/inner/", inner)
    outer = web.Application()
    outer.router.add_get("/list", ok)
    outer.add_subapp("/middle", middle)
    domain = web.Application()
    domain.router.add_get("/by-domain/{x}", ok)
    app = web.Application()
    app.router.add_get("/users/{id}", ok, name="user")
    app.router.add_post("/users/{id}", ok)
    app.router.add_get("/all/{tail:.*}", ok)
    app.router.add_view("/view", View)
    app.router.add_static("/static", folder)
    app.router.add_route("*", "/any", ok)
    app.add_subapp("/outer", outer)
    app.add_domain("tenant.example", domain)
    return app


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/users/1", "GET /users/{id}"),
        ("HEAD", "/users/1", "HEAD /users/{id}"),
        ("POST", "/users/2?x=y", "POST /users/{id}"),
        ("GET", "/all/of/this", "GET /all/{tail}"),
        ("GET", "/view", "GET /view"),
        ("POST", "/view", "POST /view"),  # 405 by the view itself: its route did match
        ("GET", "/static/file.txt", "GET /static"),
        ("GET", "/static/absent.txt", "GET /static"),
        ("OPTIONS", "/any", "OPTIONS /any"),
        ("PROPFIND", "/any", "HTTP /any"),
        ("GET", "/outer/list", "GET /outer/list"),
        ("GET", "/outer/middle/", "GET /outer/middle/"),
        ("GET", "/outer/middle/inner/leaf", "GET /outer/middle/inner/{leaf}"),
        ("GET", "/absent/4711", "GET"),
        ("GET", "/outer/middle/inner/4711", "GET"),
        ("DELETE", "/users/1", "DELETE"),
        ("PURGE", "/absent", "HTTP"),
    ],
)
async def test_a_span_is_named_after_its_route(
    tracing: Tracing, recorder: Recorder, tmp_path: Path, method: str, path: str, name: str
) -> None:
    """Name and attributes: method and template with all prefixes, or the method alone."""
    (tmp_path / "file.txt").write_text("content")
    app = _application(tmp_path)
    setup(app, tracing)
    async with Serving(app) as service:
        await _send(service, method, path)
        span = await recorder.one()
    assert span.name == name
    attributes = span.attributes or {}
    verb, _, route = name.partition(" ")
    assert attributes.get("http.route") == (route or None)
    assert attributes["http.request.method"] == ("_OTHER" if verb == "HTTP" else method)
    assert attributes.get("http.request.method_original") == (method if verb == "HTTP" else None)


async def _send(service: Service, method: str, path: str) -> None:
    """By a raw connection, so that the method goes out as it is."""
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    async with service.connection(request) as reader:
        await reader.read()


async def test_an_application_by_domain_has_its_routes(
    tracing: Tracing, recorder: Recorder, tmp_path: Path
) -> None:
    """A domain is no part of the route."""
    app = _application(tmp_path)
    setup(app, tracing)
    async with Serving(app) as service:
        await service.status("/by-domain/1", headers={"Host": "tenant.example"})
    assert (await recorder.one()).name == "GET /by-domain/{x}"


async def test_known_methods_come_from_the_variable(
    tracing: Tracing, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS replaces the list."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "PURGE, GET")
    app = app_of(ok, "/pot")
    setup(app, tracing)
    monkeypatch.delenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS")
    async with Serving(app) as service:
        await _send(service, "PURGE", "/pot")
        await _send(service, "POST", "/pot")
        spans = await recorder.take(2)
    assert [span.name for span in spans] == ["PURGE /pot", "HTTP /pot"]


@pytest.mark.parametrize("levels", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}])
@pytest.mark.parametrize("path", ["/a/b/leaf", "/a/b/absent"])
async def test_a_request_through_nested_applications_has_one_span(
    tracing: Tracing, recorder: Recorder, levels: set[int], path: str
) -> None:
    """However many of the applications on its way were set up."""
    apps = [web.Application() for _ in range(3)]
    apps[2].router.add_get("/leaf", ok)
    for level in levels:
        setup(apps[level], tracing)
    apps[1].add_subapp("/b", apps[2])
    apps[0].add_subapp("/a", apps[1])
    async with Serving(apps[0]) as service:
        await service.status(path)
    span = await recorder.one()
    assert span.name == ("GET /a/b/leaf" if path.endswith("leaf") else "GET")


async def test_middlewares_taken_over_by_another_application_trace_it(
    tracing: Tracing, recorder: Recorder
) -> None:
    """An application made of the middlewares of one that was set up."""
    model = web.Application()
    setup(model, tracing)
    async with Serving(app_of(ok, middlewares=model.middlewares)) as service:
        await service.status("/")
    await recorder.one()


@pytest.mark.parametrize(
    ("end", "address"),
    [
        (("::1", 80, 0, 0), ("::1", 80)),
        (("127.0.0.1", 80), ("127.0.0.1", 80)),
        ("/run/http.sock", ("/run/http.sock", None)),
        (b"\0name", ("name", None)),
        ("", ("", None)),
        (None, ("", None)),
    ],
)
def test_ends_of_connections(end: object, address: tuple[str, int | None]) -> None:
    """IPv4, IPv6, Unix sockets with a path, an abstract name or none, and no connection at all."""
    assert address_of(end) == address


def _resource() -> web.Resource:
    return web.UrlDispatcher().add_resource("/x")


async def test_what_is_kept_of_routes_is_bounded() -> None:
    """Neither invented methods nor routes that a router makes up fill the memory."""
    targets = Targets(semconv.METHODS)
    resource = _resource()
    for number in range(5000):
        route = web.ResourceRoute("GET", ok, resource)
        assert repr(targets.describe("GET", route)) == "<Target GET /x>"
        assert targets.describe(f"M{number}", route).name == "HTTP /x"
    assert len(targets.known) < 3000


def test_what_is_kept_of_servers_is_bounded() -> None:
    """Their names are the client's to invent; each request says its own, kept or not."""
    target = Targets(semconv.METHODS).describe("GET", web.ResourceRoute("GET", ok, _resource()))
    names = [f"shop-{number}.example" for number in range(30)] * 2
    for name in ["x" * 1000, *names]:
        request = make_mocked_request("GET", "/x", headers={"Host": f"{name}:81"})
        attributes = target.attributes(request)
        assert (attributes["server.address"], attributes["server.port"]) == (name, 81)
        attributes.clear()  # the span's own, from here on
    assert 0 < len(target._servers) < 20
    assert max(len(host or "") for host, _, _ in target._servers) < 300


async def test_sampling_sees_the_final_name_and_route(recorder: Recorder) -> None:
    """A sampler of the user's is given the name and the creation-time attributes."""
    from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

    from asynctrace.initialization import init

    seen: list[tuple[str, dict[str, object]]] = []

    class Noting(Sampler):
        def should_sample(self, *asked: Any) -> SamplingResult:
            _context, _trace_id, name, _kind, attributes, *_ = asked
            seen.append((name, dict(attributes)))
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "noting"

    async with init(
        set_global=False, exporter="none", span_processors=[recorder], sampler=Noting()
    ) as tracing:
        app = app_of(ok, "/users/{id}")
        setup(app, tracing)
        async with Serving(app) as service:
            await service.status("/users/1")
    [(name, attributes)] = seen
    assert name == "GET /users/{id}"
    assert {"http.route", "url.path", "url.scheme", "client.address"} <= attributes.keys()
    assert recorder.spans == []


async def test_a_request_that_is_answered_before_routing_makes_no_span(
    tracing: Tracing, recorder: Recorder
) -> None:
    """What aiohttp's parser refuses reaches no application."""
    app = app_of(ok)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(b"NO SUCH THING\r\n\r\n") as reader:
            assert b"400" in await reader.read()
        async with service.connection(get("/")):
            await recorder.take(1)
    assert recorder.started == 1

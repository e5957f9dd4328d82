"""Ours against contrib's stable mode: equal, but for differences that are meant, with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import pytest

from tests.support.programs import run_program

# What differs on purpose: the attribute, or the part of a span, and why.
INTENDED: Final[Mapping[str, str]] = {
    "http.route": "contrib reports an empty route for what matched none; absent is what that means",
    "client.address": "contrib leaves it out; the conventions recommend it",
    "url.path": "contrib gives the decoded path; the conventions want the URL's own text",
    "error.type": "contrib names a class without its module, and nothing of a cancelled request",
    "http.response.status_code": "contrib omits what aiohttp answers to an exception",
    "status": "contrib leaves a cancelled request without a status: a false success",
    "events": "contrib records an exception for a 5xx that was raised as a response; it is none",
    "asynctrace.cancellation.reason": "ours alone",
}

_PROGRAM = """
import asyncio, json, os, sys
from aiohttp import web
import aiohttp
from opentelemetry.sdk.trace import SpanProcessor
from asynctrace.initialization import init
from asynctrace.aiohttp import setup

spans = []

class Keep(SpanProcessor):
    def on_end(self, span):
        spans.append(span)

class Failure(Exception):
    pass

async def handler(request):
    if "fail" in request.query: raise Failure("x")
    if "cancel" in request.query:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)
    if "slow" in request.query: raise TimeoutError
    if "raise" in request.query: raise web.HTTPServiceUnavailable
    if "gone" in request.query: raise web.HTTPGone
    return web.Response(text="fine", status=int(request.query.get("status", 200)))

async def main():
    options = {"set_global": False, "exporter": "none", "span_processors": [Keep()]}
    async with init(**options, engine=sys.argv[1]) as tracing:
        app = web.Application()
        app.router.add_route("*", "/users/{id}", handler)
        setup(app, tracing)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        headers = {"Host": "shop.example:8080", "User-Agent": "test"}
        base = f"http://127.0.0.1:{port}"
        limit = aiohttp.ClientTimeout(1)
        async with aiohttp.ClientSession(headers=headers, timeout=limit) as session:
            for method, path in json.loads(sys.argv[2]):
                try:
                    async with session.request(method, base + path) as response:
                        await response.read()
                except (aiohttp.ServerDisconnectedError, TimeoutError):
                    pass
        await runner.cleanup()
    print(json.dumps([
        {"name": span.name, "kind": span.kind.name, "status": span.status.status_code.name,
         "events": [event.name for event in span.events], "attributes": dict(span.attributes)}
        for span in spans
    ]))

asyncio.run(main())
"""

CASES: Final = [
    ("GET", "/users/4?a=1&sig=s"),
    ("POST", "/users/4?status=201"),
    ("GET", "/users/4%202"),
    ("GET", "/users/4?status=404"),
    ("GET", "/users/4?status=503"),
    ("GET", "/users/4?raise"),
    ("GET", "/users/4?gone"),
    ("GET", "/users/4?fail"),
    ("GET", "/users/4?slow"),
    ("GET", "/nothing"),
    ("PROPFIND", "/users/4"),
    ("POST", "/users/4?cancel"),
    ("HEAD", "/users/4"),
]


def _spans(engine: str) -> list[dict[str, object]]:
    ended = run_program(_PROGRAM, engine, json.dumps(CASES), OTEL_SEMCONV_STABILITY_OPT_IN="http")
    assert ended.code == 0, ended.err
    spans = json.loads(ended.out.splitlines()[-1])
    assert isinstance(spans, list)
    return spans


@pytest.mark.may_block("runs two programs")
def test_ours_and_contrib_in_its_stable_mode() -> None:
    """Nothing differs but what is listed, and everything that is common is equal."""
    differences: dict[str, set[str]] = {}
    for case, ours, theirs in zip(CASES, _spans("asynctrace"), _spans("contrib"), strict=True):
        flat = [
            {key: value for key, value in span.items() if key != "attributes"}
            | dict(span["attributes"])  # type: ignore[call-overload]
            for span in (ours, theirs)
        ]
        for key in flat[0].keys() | flat[1].keys():
            if flat[0].get(key) != flat[1].get(key):
                said = f"{' '.join(case)}: {flat[0].get(key)!r}, not {flat[1].get(key)!r}"
                differences.setdefault(key, set()).add(said)
    assert set(differences) <= set(INTENDED), differences
    assert set(INTENDED) <= set(differences), "listed, but there is no difference any more"

"""Hops: redirects, authentication flows and retries are attempts of one request, counted."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import tenacity
from httpx_retries import Retry, RetryTransport
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.httpx import (
    AsyncTracingTransport,
    TracingTransport,
    instrument,
    instrument_all,
    uninstrument,
    uninstrument_all,
)
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server, until

COUNT = "http.request.resend_count"


def _counts(recorder: Recorder) -> list[object]:
    return [(span.attributes or {}).get(COUNT) for span in recorder.spans]


def _scripted(kind: Kind, *statuses: int | Exception) -> Any:
    """A transport that answers with these, in turn; a redirect goes to /next."""
    script = iter(statuses)

    def respond(request: Any) -> Any:
        status = next(script)
        if isinstance(status, Exception):
            raise status
        headers = {"location": "/next"} if 300 <= status < 400 else {}
        return kind.library.Response(status, headers=headers, content=b"x", request=request)

    return kind.transport(respond)


def _traced(kind: Kind, transport: Any, tracing: Tracing) -> Any:
    wrap = AsyncTracingTransport if kind.is_async else TracingTransport
    return wrap(transport, tracing=tracing)


async def test_redirects(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """The second attempt is the first to be counted; all have the same parent."""
    transport = _scripted(kind, 302, 307, 200)
    async with kind.client(transport=transport, follow_redirects=True) as client:
        instrument(client, tracing=tracing)
        with tracing.get_tracer("test").start_as_current_span("outer") as outer:
            response = await kind.call(client.get, "http://host/")
    assert len(response.history) == 2
    spans = recorder.spans[:3]
    assert [(span.attributes or {}).get(COUNT) for span in spans] == [None, 1, 2]
    parents = {span.parent.span_id if span.parent else 0 for span in spans}
    assert parents == {outer.get_span_context().span_id}


async def test_the_callers_request_of_a_redirect(kind: Kind, tracing: Tracing) -> None:
    """The caller finds the extensions of its request as they were."""
    transport = _scripted(kind, 302, 200)
    async with kind.client(transport=transport, follow_redirects=True) as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", "http://host/", extensions={"mine": 1})
        before = request.extensions
        await kind.call(client.send, request)
        assert request.extensions is before
        assert "asynctrace" not in before


async def test_a_redirect_followed_by_hand(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """`response.next_request` is the next attempt, too."""
    async with kind.client(transport=_scripted(kind, 302, 200)) as client:
        instrument(client, tracing=tracing)
        response = await kind.call(client.get, "http://host/")
        await kind.call(client.send, response.next_request)
    assert _counts(recorder) == [None, 1]


async def test_a_redirect_that_is_not_followed(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """The same request again is its second attempt, and not the redirected one's."""
    async with kind.client(transport=_scripted(kind, 302, 302, 200)) as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", "http://host/")
        for _ in range(3):
            await kind.call(client.send, request)
    assert _counts(recorder) == [None, 1, 2]


async def test_an_authentication_flow(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A request that is sent again with credentials is counted."""
    library = kind.library

    class Challenge(library.Auth):  # type: ignore[misc, name-defined]
        def auth_flow(self, request: Any) -> Iterator[Any]:
            response = yield request
            if response.status_code == 401:
                request.headers["authorization"] = "Bearer x"
                yield request

    async with kind.client(transport=_scripted(kind, 401, 200), auth=Challenge()) as client:
        instrument(client, tracing=tracing)
        assert (await kind.call(client.get, "http://host/")).status_code == 200
    assert _counts(recorder) == [None, 1]


async def test_digest(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """The library's own digest authentication is two attempts."""
    library = kind.library

    def respond(request: Any) -> Any:
        if "authorization" in request.headers:
            return library.Response(200)
        challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
        return library.Response(401, headers={"www-authenticate": challenge})

    auth = library.DigestAuth("me", "secret")
    async with kind.client(transport=kind.transport(respond), auth=auth) as client:
        instrument(client, tracing=tracing)
        assert (await kind.call(client.get, "http://host/")).status_code == 200
    assert _counts(recorder) == [None, 1]


async def test_the_same_request_after_success(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """A program that keeps a request, and sends it every minute, does not resend it."""
    async with kind.client(transport=_scripted(kind, 500, 200, 200)) as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", "http://host/")
        for _ in range(3):
            await kind.call(client.send, request)
    assert _counts(recorder) == [None, 1, None]


async def test_one_request_in_several_tasks(tracing: Tracing, recorder: Recorder) -> None:
    """Requests at the same time are not each other's retries."""
    everybody = asyncio.Barrier(3)

    class Together(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await everybody.wait()
            return httpx.Response(500)

    async with instrument(httpx.AsyncClient(transport=Together()), tracing=tracing) as client:
        request = client.build_request("GET", "http://host/")
        await asyncio.gather(*(client.send(request) for _ in range(3)))
    assert _counts(recorder) == [None] * 3


async def test_a_retrying_transport(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """Ours inside of one counts its attempts, after a status and after an exception."""
    library = kind.library
    inner = _traced(kind, _scripted(kind, 503, library.ConnectError("no"), 200), tracing)

    class Retrying(library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            for _ in range(3):
                try:
                    response = await inner.handle_async_request(request)
                except library.TransportError:
                    continue
                if response.status_code < 500:
                    return response
            raise AssertionError

    class RetryingSync(library.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            for _ in range(3):
                try:
                    response = inner.handle_request(request)
                except library.TransportError:
                    continue
                if response.status_code < 500:
                    return response
            raise AssertionError

    async with kind.client(transport=Retrying() if kind.is_async else RetryingSync()) as client:
        assert (await kind.call(client.get, "http://host/")).status_code == 200
    assert _counts(recorder) == [None, 1, 2]


@pytest.mark.parametrize("is_async", [True, False])
async def test_httpx_retries(is_async: bool, tracing: Tracing, recorder: Recorder) -> None:
    """The transport of httpx-retries, around ours."""
    kind = Kind(httpx, is_async)
    inner = _traced(kind, _scripted(kind, 503, 503, 200), tracing)
    retry = Retry(total=3, backoff_factor=0, status_forcelist=[503])
    async with kind.client(transport=RetryTransport(transport=inner, retry=retry)) as client:
        assert (await kind.call(client.get, "http://host/")).status_code == 200
    assert _counts(recorder) == [None, 1, 2]


async def test_tenacity(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A retry around the call says by the extensions which attempt it is."""
    async with kind.client(transport=_scripted(kind, 503, 503, 200)) as client:
        instrument(client, tracing=tracing)
        if kind.is_async:
            async for attempt in tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(5)):
                with attempt:
                    count = attempt.retry_state.attempt_number - 1
                    extensions = {"asynctrace": {"resend_count": count}}
                    response = await client.get("http://host/", extensions=extensions)
                    response.raise_for_status()
        else:

            def call() -> None:
                for attempt in tenacity.Retrying(stop=tenacity.stop_after_attempt(5)):
                    with attempt:
                        count = attempt.retry_state.attempt_number - 1
                        extensions = {"asynctrace": {"resend_count": count}}
                        client.get("http://host/", extensions=extensions).raise_for_status()

            await asyncio.to_thread(call)
    assert _counts(recorder) == [None, 1, 2]


async def test_a_count_goes_on_over_redirects(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """What the caller says is where the counting begins."""
    transport = _scripted(kind, 302, 200)
    async with kind.client(transport=transport, follow_redirects=True) as client:
        instrument(client, tracing=tracing)
        extensions = {"asynctrace": {"resend_count": 4, "url_template": "/a"}}
        await kind.call(client.get, "http://host/", extensions=extensions)
    first, second = recorder.spans
    assert _counts(recorder) == [4, 5]
    assert (first.name, second.name) == ("GET /a", "GET")


@pytest.mark.parametrize("said", [None, 3, [], {}, {"resend_count": "x"}, {"resend_count": -1}])
async def test_nonsense(kind: Kind, tracing: Tracing, recorder: Recorder, said: object) -> None:
    """What cannot be a count is none."""
    async with kind.client(transport=_scripted(kind, 200)) as client:
        instrument(client, tracing=tracing)
        await kind.call(client.get, "http://host/", extensions={"asynctrace": said})
    assert _counts(recorder) == [None]
    assert tracing.statistics().faults == {}


# --- the logical span ----------------------------------------------------------------------------


async def test_the_logical_span(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """One INTERNAL span is the parent of all attempts, and ends with the last body."""
    transport = _scripted(kind, 302, 200)
    async with kind.client(transport=transport, follow_redirects=True) as client:
        instrument(client, tracing=tracing, logical_span=True)
        await kind.call(client.get, "http://host/")
    first, second, logical = recorder.spans
    assert (logical.name, logical.kind) == ("GET request", SpanKind.INTERNAL)
    assert logical.parent is None
    assert logical.context is not None
    for span in (first, second):
        assert span.kind is SpanKind.CLIENT
        assert span.parent is not None
        assert span.parent.span_id == logical.context.span_id
    assert (logical.attributes or {})["http.request.method"] == "GET"


async def test_the_logical_span_of_a_timeout(
    async_kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Both spans tell that an enclosing scope took the cancellation back."""
    async with async_kind.client() as client:
        instrument(client, tracing=tracing, logical_span=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(server.url("/silent"))
    await until(lambda: len(recorder.spans) == 2)
    reasons = [(s.attributes or {})["asynctrace.cancellation.reason"] for s in recorder.spans]
    assert reasons == ["scope", "scope"]


async def test_the_logical_span_of_a_stream(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """It is open until the body is closed."""
    async with kind.client() as client:
        instrument(client, tracing=tracing, logical_span=True)
        request = client.build_request("GET", server.url("/200"))
        response = await kind.call(client.send, request, stream=True)
        assert len(tracing.open_spans()) == 2
        await kind.call(response.aread if kind.is_async else response.read)
        assert tracing.open_spans() == ()
    attempt, logical = recorder.spans
    assert attempt.parent is not None
    assert logical.context is not None
    assert attempt.parent.span_id == logical.context.span_id
    assert (logical.end_time or 0) >= (attempt.end_time or 0)


async def test_the_logical_span_of_a_failure(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """It ends with the error that the caller gets, too many redirects for one."""
    transport = _scripted(kind, *[302] * 5)
    async with kind.client(transport=transport, follow_redirects=True, max_redirects=2) as client:
        instrument(client, tracing=tracing, logical_span=True)
        with pytest.raises(kind.library.TooManyRedirects):
            await kind.call(client.get, "http://host/")
    *attempts, logical = recorder.spans
    assert len(attempts) == 3
    assert logical.status.status_code is StatusCode.ERROR
    error_type = f"{kind.library.__name__}.TooManyRedirects"
    assert (logical.attributes or {})["error.type"] == error_type


async def test_the_logical_span_is_taken_back(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """`uninstrument` leaves a client as it was, also one whose `send` somebody had replaced."""
    async with kind.client(transport=_scripted(kind, 200, 200)) as client:
        before = dict(vars(client))
        instrument(instrument(client, logical_span=True), logical_span=True)
        uninstrument(client)
        assert vars(client) == before

        client.send = theirs = functools.partial(client.send)
        instrument(client, tracing=tracing, logical_span=True)
        await kind.call(client.get, "http://host/")
        assert len(recorder.spans) == 2
        uninstrument(client)
        assert client.send is theirs


async def test_no_logical_span_without_tracing(kind: Kind, recorder: Recorder) -> None:
    """While nothing runs there is none."""
    async with kind.client(transport=_scripted(kind, 200)) as client:
        instrument(client, logical_span=True)
        assert (await kind.call(client.get, "http://host/")).status_code == 200


@pytest.mark.parametrize("everywhere", [False, True])
async def test_no_logical_span_of_what_is_skipped(
    kind: Kind, tracing: Tracing, recorder: Recorder, everywhere: bool
) -> None:
    """A request that is to get no span gets none around it, either."""
    async with kind.client(transport=_scripted(kind, 200, 200)) as client:
        options: Any = {"tracing": tracing, "logical_span": True, "skip": ["skipped"]}
        if everywhere:
            instrument_all(**options)
        else:
            instrument(client, **options)
        try:
            await kind.call(client.get, "http://skipped/")
            assert recorder.started == []
            await kind.call(client.get, "http://host/")
        finally:
            uninstrument_all()
    assert [span.name for span in recorder.spans] == ["GET", "GET request"]


@pytest.mark.may_block("writes a log line")
async def test_the_logical_span_when_skip_fails(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """A predicate that fails skips neither span, and is told of once."""
    async with kind.client(transport=_scripted(kind, 200)) as client:
        instrument(client, tracing=tracing, logical_span=True, skip=lambda request: 1 / 0 > 0)
        await kind.call(client.get, "http://host/")
    assert [span.name for span in recorder.spans] == ["GET", "GET request"]
    assert tracing.statistics().faults == {"skip": 1}

"""A shutdown that was forgotten: what the exit of the process delivers, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.collector import ScriptedCollector
from tests.support.h2_server import Call, H2Server, Peer
from tests.support.programs import run_program


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


def by_name(url: str, host: str = "localhost") -> str:
    return url.replace("127.0.0.1", host)


FORGETS = """
    import asyncio, sys
    from asynctrace import init

    async def main():
        tracing = await init(endpoint=sys.argv[1], compression=sys.argv[2])
        tracing.get_tracer("t").start_span("work").end()
        return tracing

    tracing = asyncio.run(main())
"""

NO_MORE_THREADS = """
    import _thread, atexit

    def refuse(*args):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    # Registered last, so called first: from Python 3.12 on the exit is like this by itself.
    atexit.register(setattr, _thread, "start_new_thread", refuse)
"""

HOSTED_BY_A_THREAD = """
    tracing.get_tracer("t").start_span("after the loop").end()
"""


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("warnings", ["ignore", "default::ResourceWarning"])
def test_a_collector_that_is_named_gets_the_spans(
    collector: ScriptedCollector, warnings: str, compression: str
) -> None:
    """Also where the interpreter starts no thread for a look-up or for compressing any more."""
    program = FORGETS + NO_MORE_THREADS
    ended = run_program(program, by_name(collector.url), compression, PYTHONWARNINGS=warnings)
    assert ended.code == 0, ended.err
    assert [span.name for span in collector.spans] == ["work"]
    assert "cannot be delivered" not in ended.err


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_thread_that_delivers_needs_no_other(
    collector: ScriptedCollector, compression: str
) -> None:
    """Where spans ended after the loop, a thread of ours has them at the exit: once each."""
    program = FORGETS + HOSTED_BY_A_THREAD + NO_MORE_THREADS
    ended = run_program(program, by_name(collector.url), compression)
    assert ended.code == 0, ended.err
    assert sorted(span.name for span in collector.spans) == ["after the loop", "work"]
    assert ended.err == ""


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_grpc_does_the_same(compression: str) -> None:
    """Its look-ups and its compressing take threads, too."""
    program = FORGETS.replace("init(", "init(protocol='grpc', ") + HOSTED_BY_A_THREAD
    calls: list[Call] = []

    def take(peer: Peer) -> None:
        peer.greet()
        calls.append(peer.read_call())
        peer.answer(calls[-1])
        peer.wait_for_hang_up()

    with H2Server(then=take) as server:
        ended = run_program(program + NO_MORE_THREADS, by_name(server.url), compression)
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert len(calls) == 1


LOOKS_UP = """
    import asyncio, socket, sys
    from asynctrace import init

    looked_up = []
    getaddrinfo = socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        looked_up.append(host)
        return getaddrinfo("127.0.0.1" if host == "collector.test" else host, *args, **kwargs)

    socket.getaddrinfo = resolve

    async def main():
        tracing = await init(endpoint=sys.argv[1])
        tracing.get_tracer("t").start_span("work").end()
        async with asyncio.timeout(5):
            while "collector.test" not in looked_up:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)

    asyncio.run(main())
"""


def test_a_name_is_looked_up_at_the_start(collector: ScriptedCollector) -> None:
    """So the exit knows the address of a collector to which nothing was sent before."""
    ended = run_program(LOOKS_UP + NO_MORE_THREADS, by_name(collector.url, "collector.test"))
    assert ended.code == 0, ended.err
    assert [span.name for span in collector.spans] == ["work"]

"""After a shutdown through a bad link the process ends at once, whatever hangs."""

from __future__ import annotations

import pytest

from tests.adversity.scene import collecting
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.programs import run_program

pytestmark = pytest.mark.slow  # each waits for real deadlines

PROMPT = 1.0
"""Seconds: an interpreter takes a while to end on a busy machine."""

PROGRAM = """
    import asyncio, sys, time
    from asynctrace import init
    from tests.support.stopwatch import in_time

    async def main():
        tracing = await init(endpoint=sys.argv[1], protocol=sys.argv[2], schedule_delay=0.01)
        tracer = tracing.get_tracer("t")
        for _ in range(50):
            tracer.start_span("work").end()
            await asyncio.sleep(0.001)
        with in_time(0.3):
            report = await tracing.shutdown(0.3)
        print(report.exported, report.pending)

    asyncio.run(main())
    print(time.time())
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("fault", [Fault.BLACK_HOLE, Fault.REFUSE, Fault.THROTTLE, Fault.CUT])
def test_the_process_ends_at_once(fault: Fault, protocol: str) -> None:
    """Nothing that is still under way holds it up."""
    with collecting(protocol) as collector, FaultProxy(collector.port, fault) as proxy:
        ended = run_program(PROGRAM, proxy.url, protocol)
    assert ended.code == 0, ended.err
    exported, pending, printed = (float(word) for word in ended.out.split())
    assert pending == 0
    assert exported <= len(collector.span_ids)
    assert ended.ended_at - printed < PROMPT
    assert "Traceback" not in ended.err

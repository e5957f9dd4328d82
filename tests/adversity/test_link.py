"""A link that goes wrong in every way: in time, no stall, and what is reported is what arrived."""

from __future__ import annotations

import asyncio

import pytest

from tests.adversity.scene import PROTOCOLS, scene
from tests.support.fault_proxy import Fault
from tests.support.heartbeat import SteadyHeartbeat

pytestmark = pytest.mark.slow  # each waits for real deadlines

FAULTS = [fault for fault in Fault if fault is not Fault.NONE]
HOPELESS = [fault for fault in FAULTS if fault is not Fault.THROTTLE]
AMBIGUOUS = {Fault.LOSE_ANSWERS, Fault.THROTTLE, Fault.BLACK_HOLE}
"""The collector may have taken what nobody could confirm."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", HOPELESS, ids=lambda fault: fault.value)
async def test_a_link_that_is_bad_from_the_start(fault: Fault, protocol: str) -> None:
    """Nothing is reported as delivered; flush and shutdown end in time; the loop runs on."""
    async with scene(protocol, fault) as it:
        async with SteadyHeartbeat():
            await asyncio.sleep(0.05)  # of load under the fault; nothing waits for it
            assert not await it.flush(0.1)
            report = await it.shutdown(0.3)
        assert not report
        assert report.exported == 0
        if fault not in AMBIGUOUS:
            assert it.received == set()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.value)
async def test_a_link_that_goes_bad_under_load(fault: Fault, protocol: str) -> None:
    """What was taken before is reported, what was not is counted; span by span."""
    async with scene(protocol) as it:
        async with SteadyHeartbeat():
            await it.wait_until_delivered(20)
            it.proxy.set(fault)
            await asyncio.sleep(0.05)  # of load under the fault; nothing waits for it
            await it.flush(0.1)
            report = await it.shutdown(0.3)
        assert report.exported >= 20
        if fault not in AMBIGUOUS:
            assert it.received == it.delivered


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.value)
async def test_a_link_that_recovers_loses_nothing(fault: Fault, protocol: str) -> None:
    """Every span that ended before, during and after the fault arrives."""
    async with scene(protocol) as it:
        await it.wait_until_delivered(20)
        it.proxy.set(fault)
        await asyncio.sleep(0.1)
        await it.flush(0.05)
        it.proxy.set(Fault.NONE)
        report = await it.shutdown(10)
        assert report
        assert it.received == set(it.ended) == it.delivered


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", HOPELESS, ids=lambda fault: fault.value)
async def test_a_long_outage_is_sat_out(fault: Fault, protocol: str) -> None:
    """The circuit opens, memory is bounded, a flush finds the collector when it is back."""
    async with scene(protocol, export_timeout=0.3, timeout=0.2, max_queue_size=64) as it:
        await it.wait_until_delivered(20)
        it.proxy.set(fault)
        async with asyncio.timeout(20):
            while (figures := it.tracing.statistics().exporters["otlp"]).circuit != "open":
                assert figures.queued <= 64 + 16
                await asyncio.sleep(0.005)
            while not it.tracing.statistics().exporters["otlp"].dropped:
                await asyncio.sleep(0.005)
        it.proxy.set(Fault.NONE)
        async with asyncio.timeout(20):
            while not await it.flush(0.5):  # what the dead connection swallowed times out first
                pass
        assert it.tracing.statistics().exporters["otlp"].circuit == "closed"
        report = await it.shutdown(5)
        assert report.dropped.keys() == {"queue_full"}
        assert report.failed

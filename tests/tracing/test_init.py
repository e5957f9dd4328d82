"""Starting: nothing before the await, nothing left after a failure, nothing lost meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import propagate
from opentelemetry import trace as trace_api
from opentelemetry.sdk.resources import Resource, ResourceDetector
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider

from asynctrace import propagation, tracing
from asynctrace._lifecycle import State
from asynctrace.errors import ConfigError, LifecycleError
from asynctrace.initialization import init
from asynctrace.testing import InMemoryExporter
from asynctrace.trace import delegate
from tests.support.exporters import ScriptedExporter
from tests.support.programs import run_program_async


class Detector(ResourceDetector):
    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__()
        self.answer = answer

    def detect(self) -> Resource:
        return self.answer()  # type: ignore[return-value]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a slow detector waits for; opened at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def slow(gate: threading.Event) -> Detector:
    def answer() -> Resource:
        gate.wait(30)
        return Resource({"cloud.region": "eu"})

    return Detector(answer)


def nothing_is_left() -> None:
    """No global tracing, provider or propagator of ours."""
    assert tracing.running() is None
    assert delegate.active() is None
    assert not isinstance(propagate.get_global_textmap(), propagation.Propagator)


async def test_nothing_happens_before_the_await(monkeypatch: pytest.MonkeyPatch) -> None:
    """`init` is a plain call: settings are read, and errors raised, when it is awaited."""
    starting = init(service_name="early", exporter="none")
    assert repr(starting) == "<init, not awaited yet>"
    nothing_is_left()
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "77")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7")
    started = await starting
    assert started.config.max_queue_size == 77
    assert repr(starting).startswith("<init <Tracing 'early' running")
    await started.shutdown()


async def test_awaited_or_entered_it_is_the_same() -> None:
    """Both give a running `Tracing`; leaving the block shuts down."""
    awaited = await init(exporter="none", set_global=False)
    assert awaited.state is State.RUNNING
    await awaited.shutdown()
    async with init(exporter="none", set_global=False) as entered:
        assert entered.state is State.RUNNING
    assert entered.state is State.CLOSED


async def test_awaiting_twice_gives_the_same() -> None:
    """As long as it runs; a closed one stays closed."""
    starting = init(exporter="none", set_global=False)
    first = await starting
    assert await starting is first
    await first.shutdown()
    with pytest.raises(LifecycleError, match=r"asynctrace\.init\(\) for a new one"):
        await starting


async def test_an_unusable_setting_starts_nothing_and_can_be_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ConfigError names the variable; once that is mended the same `init` starts."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "often")
    starting = init(exporter="none")
    with pytest.raises(ConfigError) as caught:
        await starting
    assert caught.value.setting == "OTEL_BSP_SCHEDULE_DELAY"
    nothing_is_left()
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    async with starting as started:
        assert tracing.current() is started


async def test_an_exporter_that_cannot_be_built_starts_nothing(gate: threading.Event) -> None:
    """The error comes at once, without waiting for slow detectors, and nothing is left."""
    with pytest.raises(ConfigError):
        async with asyncio.timeout(5):
            await init(
                endpoint="https://localhost:4318",
                certificate=__file__,
                resource_detectors=[slow(gate)],
                resource_timeout=20,
            )
    nothing_is_left()
    async with init(exporter="none"):
        pass


async def test_a_cancelled_start_leaves_nothing(gate: threading.Event) -> None:
    """The cancellation passes through, the place is free again."""
    starting = init(exporter="none", resource_detectors=[slow(gate)], resource_timeout=20)
    task = asyncio.create_task(_await(starting))
    async with asyncio.timeout(5):
        while tracing.running() is None:
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    nothing_is_left()
    gate.set()
    async with starting as started:
        assert started.state is State.RUNNING


async def _await(starting: tracing.Initialization) -> tracing.Tracing:
    return await starting


async def test_closed_while_it_starts(gate: threading.Event) -> None:
    """A shutdown during the start wins: the start raises, and nothing runs."""
    starting = init(exporter="none", resource_detectors=[slow(gate)], resource_timeout=20)
    task = asyncio.create_task(_await(starting))
    async with asyncio.timeout(5):
        while tracing.running() is None:
            await asyncio.sleep(0)
    await tracing.current().shutdown()
    gate.set()
    with pytest.raises(LifecycleError):
        await task
    nothing_is_left()


# ---- spans begun while it starts


async def test_spans_of_the_start_are_not_lost_and_carry_the_final_resource(
    gate: threading.Event,
) -> None:
    """They are recorded at once and sent when the resource is known."""
    exporter = InMemoryExporter()
    task = asyncio.create_task(
        _await(init(exporter=exporter, resource_detectors=[slow(gate)], resource_timeout=20))
    )
    async with asyncio.timeout(5):
        while tracing.running() is None:
            await asyncio.sleep(0)
    assert tracing.current().state is State.STARTING
    tracer = trace_api.get_tracer("early")
    tracer.start_span("ended during the start").end()
    open_span = tracer.start_span("ended after the start")
    assert not tracing.current().tracer_provider.force_flush(100)
    with pytest.raises(LifecycleError, match="starting"):
        await tracing.current().force_flush()
    gate.set()
    started = await task
    open_span.end()
    report = await started.shutdown()
    assert report.exported == 2
    assert {span.name for span in exporter.spans} == {
        "ended during the start",
        "ended after the start",
    }
    assert {span.resource.attributes["cloud.region"] for span in exporter.spans} == {"eu"}


async def test_more_early_spans_than_fit_are_counted(gate: threading.Event) -> None:
    """Memory is bounded from the first moment on, and no loss is silent."""
    exporter = InMemoryExporter()
    task = asyncio.create_task(
        _await(
            init(
                exporter=exporter,
                resource_detectors=[slow(gate)],
                resource_timeout=20,
                max_queue_size=3,
                max_export_batch_size=3,
            )
        )
    )
    async with asyncio.timeout(5):
        while tracing.running() is None:
            await asyncio.sleep(0)
    for number in range(5):
        trace_api.get_tracer("early").start_span(str(number)).end()
    gate.set()
    report = await (await task).shutdown()
    assert report.exported == 3
    assert report.dropped == {"queue_full": 2}
    assert [span.name for span in exporter.spans] == ["0", "1", "2"]


async def test_a_detector_that_hangs_delays_the_start_by_its_timeout_only(
    gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The start succeeds without its attributes, and one line says so."""
    async with asyncio.timeout(5):
        started = await init(
            exporter="none",
            resource_detectors=[slow(gate)],
            resource_timeout=0.05,
            set_global=False,
        )
    assert "cloud.region" not in started.tracer_provider.resource.attributes
    assert len(caplog.records) == 1
    await started.shutdown()


# ---- who is global


async def test_a_second_one_is_refused_and_told_of_the_first() -> None:
    """The error names what runs, and the first is not disturbed."""
    async with init(service_name="first", exporter="none") as first:
        with pytest.raises(LifecycleError, match=r"<Tracing 'first' running") as caught:
            await init(service_name="second", exporter="none")
        assert "set_global=False" in caught.value.hint
        assert tracing.current() is first
        assert delegate.active() is first.tracer_provider


async def test_independent_ones_touch_nothing_global() -> None:
    """`set_global=False`: as many as you like, beside a global one or without."""
    exporters = [InMemoryExporter() for _ in range(3)]
    textmap = propagate.get_global_textmap()
    async with (
        init(exporter=exporters[0], set_global=False) as one,
        init(exporter=exporters[1], set_global=False) as two,
    ):
        nothing_is_left()
        assert propagate.get_global_textmap() is textmap
        async with init(exporter=exporters[2]) as main:
            assert tracing.current() is main
            for number, each in enumerate((one, two, main)):
                each.get_tracer("t").start_span(str(number)).end()
        nothing_is_left()
    assert [[span.name for span in exporter.spans] for exporter in exporters] == [
        ["0"],
        ["1"],
        ["2"],
    ]


async def test_current_explains_itself() -> None:
    """Without a running one it raises, and says what to do."""
    with pytest.raises(LifecycleError) as caught:
        tracing.current()
    assert "asynctrace.init()" in caught.value.hint


async def test_tracers_outlive_lives() -> None:
    """A tracer that was kept from OpenTelemetry's API traces in each life, and not between."""
    tracer = trace_api.get_tracer("kept before the first life")
    names = []
    for life in ("first", "second"):
        assert not tracer.start_span("between").is_recording()
        exporter = InMemoryExporter()
        async with init(service_name=life, exporter=exporter) as running:
            assert tracing.running() is running
            tracer.start_span(life).end()
            with tracer.start_as_current_span("outer"):
                pass
        names.append([span.name for span in exporter.spans])
        assert {span.resource.attributes["service.name"] for span in exporter.spans} == {life}
        nothing_is_left()
    assert names == [["first", "outer"], ["second", "outer"]]


async def test_the_global_propagator_is_ours_for_as_long_as_it_runs() -> None:
    """Other instrumentations inject what the configuration says; afterwards theirs is back."""
    before = propagate.get_global_textmap()
    async with init(exporter="none", propagators=["tracecontext"]) as running:
        assert propagate.get_global_textmap() is running.propagator
        assert running.propagator.fields == {"traceparent", "tracestate"}
    assert propagate.get_global_textmap() is before


async def test_a_propagator_set_meanwhile_is_left_alone() -> None:
    """What the program set itself is not replaced at the end."""
    before = propagate.get_global_textmap()
    mine = propagation.Propagator.from_names(("baggage",))
    try:
        async with init(exporter="none"):
            propagate.set_global_textmap(mine)
        assert propagate.get_global_textmap() is mine
    finally:
        propagate.set_global_textmap(before)


# ---- switched off


@pytest.mark.parametrize("value", ["true", "TRUE"])
async def test_the_sdk_can_be_switched_off(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED: everything can be called, nothing is recorded or sent."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", value)
    exporter = ScriptedExporter()
    async with init(exporter=exporter) as disabled:
        for tracer in (disabled.get_tracer("t"), trace_api.get_tracer("t")):
            with tracer.start_as_current_span("work") as span:
                assert not span.is_recording()
        assert await disabled.force_flush()
    assert "export" not in exporter.calls


# ---- what it is


async def test_what_it_offers() -> None:
    """A real SDK provider, the configuration, and a repr that tells the essentials."""
    async with init(service_name="shop", exporter=InMemoryExporter(), set_global=False) as running:
        assert isinstance(running.tracer_provider, SdkTracerProvider)
        assert running.config.service_name == "shop"
        running.get_tracer("t").start_span("a").end()
        assert repr(running) == (
            "<Tracing 'shop' running [memory: queued=1 exported=0 failed=0 dropped=0]>"
        )
        statistics = running.statistics()
        assert (statistics.state, statistics.accepted, statistics.queued) == ("running", 1, 1)


async def test_one_that_is_forgotten_is_told() -> None:
    """Dropping an independent `Tracing` without a shutdown is a ResourceWarning."""
    forgotten = await init(exporter=InMemoryExporter(), set_global=False)
    closing = forgotten._delivery
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del forgotten
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert "was not shut down" in str(caught[0].message)
    await closing.cut("test")


async def test_a_global_provider_that_cannot_be_loaded_leaves_the_place_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where OpenTelemetry cannot be asked, the start fails and the place is free again."""

    def broken() -> bool:
        raise RuntimeError("OTEL_PYTHON_TRACER_PROVIDER names nothing")

    monkeypatch.setattr(delegate, "install", broken)
    with pytest.raises(RuntimeError):
        await init(exporter="none")
    nothing_is_left()


LOOKED_UP = """
    import asyncio, sys, threading
    from asynctrace import init

    main_thread, here, blocking = threading.get_ident(), False, []

    def note(event, args):
        if here and event in {"open", "os.listdir", "os.scandir", "socket.getaddrinfo"}:
            if threading.get_ident() == main_thread:
                blocking.append((event, args[0]))

    sys.addaudithook(note)

    async def main(folder):
        global here
        options = {"propagators": ["tracecontext", "b3"], "spool": folder, "loop_monitor": True}
        here = True
        tracing = await init(exporter=["otlp", "console"], resource_detectors=["*"], **options)
        here = False
        print(blocking)
        await tracing.shutdown(0)

    asyncio.run(main(sys.argv[1]))
"""


async def test_the_start_reads_no_file_on_the_loop(tmp_path: Path) -> None:
    """Packages are looked through and imported in a thread: the first time, as everything is."""
    ended = await run_program_async(LOOKED_UP, str(tmp_path))
    assert ended.code == 0, ended.err
    assert ended.out == "[]\n"

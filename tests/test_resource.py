"""Who is speaking: the resource, and detectors that fail, hang or are slow."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints, version

import pytest
from opentelemetry.sdk.resources import Resource, ResourceDetector

from asynctrace import resource
from asynctrace.config import Config
from asynctrace.resource import described_by, detect, of_forked_child


def config(**options: object) -> Config:
    return Config.resolve(options, {})


class Detector(ResourceDetector):
    """Answers what it is told to."""

    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__()
        self.answer = answer

    def detect(self) -> Resource:
        return self.answer()  # type: ignore[return-value]


def answering(**attributes: str) -> Detector:
    found = {key.replace("_", "."): value for key, value in attributes.items()}
    return Detector(lambda: Resource(found))


@pytest.fixture
def never() -> Iterator[Detector]:
    """A detector that hangs for the whole test."""
    release = threading.Event()
    yield Detector(lambda: release.wait(30))
    release.set()


def test_it_says_what_the_conventions_ask_for() -> None:
    """Service, instance, process, SDK and distribution are there without any setting."""
    attributes = described_by(config(service_name="shop")).attributes
    assert attributes["service.name"] == "shop"
    assert attributes["process.pid"] == os.getpid()
    assert attributes["telemetry.sdk.language"] == "python"
    assert attributes["telemetry.sdk.name"] == "opentelemetry"
    assert attributes["telemetry.sdk.version"] == version("opentelemetry-sdk")
    assert attributes["telemetry.distro.name"] == "asynctrace"
    assert attributes["telemetry.distro.version"] == version("asynctrace")
    assert len(str(attributes["service.instance.id"])) == 36


def test_a_service_without_a_name_is_called_unknown() -> None:
    """As the conventions prescribe, after the program."""
    name = described_by(config()).attributes["service.name"]
    assert str(name).startswith("unknown_service:python")


def test_each_process_has_an_id_of_its_own_unless_it_is_given() -> None:
    """Random; the user's own wins."""
    ids = {described_by(config()).attributes["service.instance.id"] for _ in range(3)}
    assert len(ids) == 3
    given = config(resource_attributes={"service.instance.id": "mine"})
    assert described_by(given).attributes["service.instance.id"] == "mine"


async def test_who_wins() -> None:
    """Ours, then detectors in their order, then the resource given, then the attributes given."""
    found = await detect(
        config(
            resource_detectors=[
                answering(process_pid="first", a="first", b="first", c="first", d="first"),
                answering(b="second", c="second", d="second"),
            ],
            resource=Resource({"c": "object", "d": "object"}),
            resource_attributes={"d": "attribute"},
        )
    )
    told = [found.attributes[key] for key in ("process.pid", "a", "b", "c", "d")]
    assert told == ["first", "first", "second", "object", "attribute"]


async def test_a_detected_name_is_used() -> None:
    """The fallback is for when nobody knows the name."""
    found = await detect(config(resource_detectors=[answering(service_name="detected")]))
    assert found.attributes["service.name"] == "detected"


async def test_one_that_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Raising, or answering something else than a resource, costs its own attributes only."""

    def fail() -> object:
        raise OSError("no metadata service")

    found = await detect(
        config(resource_detectors=[Detector(fail), Detector(lambda: None), answering(a="found")])
    )
    assert found.attributes["a"] == "found"
    first, second = sorted(record.getMessage() for record in caplog.records)
    assert first == "The resource detector Detector failed: OSError('no metadata service')"
    assert "TypeError" in second
    assert "not a Resource" in second


async def test_one_that_hangs_is_left_out(
    never: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    """The others' answers are used, and the time-out is kept."""
    async with asyncio.timeout(5):
        found = await detect(
            config(resource_timeout=0.05, resource_detectors=[never, answering(a="found")])
        )
    assert found.attributes["a"] == "found"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("The resource detector Detector gave no answer within 0.05 s")


async def test_they_run_side_by_side_under_one_deadline() -> None:
    """Each waits for the other, which only works when both run at once."""
    meeting = threading.Barrier(3)

    def meet() -> Resource:
        meeting.wait(10)
        return Resource({"met": True})

    found = await detect(config(resource_detectors=[Detector(meet) for _ in range(3)]))
    assert found.attributes["met"] is True


async def test_a_cancelled_detection_leaves_nothing(never: Detector) -> None:
    """The cancellation passes through at once; the task guard sees that no task is left."""
    task = asyncio.create_task(detect(config(resource_timeout=30, resource_detectors=[never])))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_names_are_looked_up_among_the_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`*` stands for every installed detector; `otel` is what the configuration read already."""
    installed = EntryPoints(
        EntryPoint(name, f"{__name__}:{name}", resource.ENTRY_POINTS)
        for name in ("Sunny", "Broken", "otel")
    )
    monkeypatch.setattr(resource, "entry_points", installed.select)
    monkeypatch.setattr(
        EntryPoint, "load", lambda entry: {"Sunny": Sunny, "Broken": Broken}[entry.name]
    )
    found = await resource.detect(_with_detectors("*"))
    assert found.attributes["weather"] == "sunny"
    assert "weather" not in (await resource.detect(_with_detectors("otel"))).attributes
    named = await resource.detect(_with_detectors("Sunny"))
    assert named.attributes["weather"] == "sunny"


def _with_detectors(*names: str) -> Config:
    import dataclasses

    return dataclasses.replace(config(), resource_detectors=names)


class Sunny(Detector):
    def __init__(self) -> None:
        super().__init__(lambda: Resource({"weather": "sunny"}))


class Broken(Detector):
    def __init__(self) -> None:
        raise ImportError("not for this platform")


def test_a_child_is_itself() -> None:
    """Its own pid and, unless the user gave one, its own instance id; all else as the parent's."""
    parent = described_by(config(service_name="shop"))
    child = of_forked_child(parent, instance_id_is_ours=True)
    assert child.attributes["service.name"] == "shop"
    assert child.attributes["process.pid"] == os.getpid()
    assert child.attributes["service.instance.id"] != parent.attributes["service.instance.id"]
    kept = of_forked_child(parent, instance_id_is_ours=False)
    assert kept.attributes["service.instance.id"] == parent.attributes["service.instance.id"]

"""Who is speaking: the resource that stands on every span.

Detectors may read files, ask metadata services or hang; each runs in a daemon thread, all of them
under one deadline, and a start never fails because of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import uuid
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points, version

from opentelemetry.sdk.resources import Resource, ResourceDetector
from opentelemetry.semconv.attributes import service_attributes, telemetry_attributes

from asynctrace import _threads
from asynctrace.config import Config

logger = logging.getLogger("asynctrace")

ENTRY_POINTS = "opentelemetry_resource_detector"
PROCESS_PID = "process.pid"
SERVICE_INSTANCE_ID = "service.instance.id"
DISTRO_NAME = "telemetry.distro.name"
DISTRO_VERSION = "telemetry.distro.version"


def described_by(config: Config) -> Resource:
    """What is known without asking anybody: the resource until the detectors have answered."""
    return _combine(config, ())


async def detect(config: Config) -> Resource:
    """The final resource: `config` and whatever its detectors answer within `resource_timeout`.

    Never raises but on cancellation. A detector that fails or is late is logged and left out.
    """
    names = [name for name in config.resource_detectors if isinstance(name, str)]
    objects = [found for found in config.resource_detectors if not isinstance(found, str)]
    jobs = [asyncio.ensure_future(_threads.call(_detect_named, name)) for name in _expand(names)]
    jobs += [asyncio.ensure_future(_threads.call(_detect, detector)) for detector in objects]
    if not jobs:
        return described_by(config)
    try:
        await asyncio.wait(jobs, timeout=config.resource_timeout)
    finally:
        for job in jobs:
            job.cancel()
    return _combine(config, [resource for job in jobs if (resource := _answer(job)) is not None])


def of_forked_child(resource: Resource, *, instance_id_is_ours: bool) -> Resource:
    """The parent's resource with the identity of this process."""
    own: dict[str, str | int] = {PROCESS_PID: os.getpid()}
    if instance_id_is_ours:
        own[SERVICE_INSTANCE_ID] = str(uuid.uuid4())
    return Resource({**resource.attributes, **own}, resource.schema_url)


def _expand(names: Iterable[str]) -> list[str]:
    # "otel" reads the variables that the configuration has read already.
    if "*" in names:
        names = sorted(entry_points(group=ENTRY_POINTS).names)
    return [name for name in names if name != "otel"]


def _detect_named(name: str) -> Resource:
    (entry, *_) = entry_points(group=ENTRY_POINTS, name=name)
    return _detect(entry.load()())


def _detect(detector: ResourceDetector) -> Resource:
    resource = detector.detect()
    if not isinstance(resource, Resource):
        raise TypeError(f"{type(detector).__name__}.detect() gave {resource!r}, not a Resource")
    return resource


def _answer(job: asyncio.Future[Resource]) -> Resource | None:
    if not job.done() or job.cancelled():
        logger.warning("A resource detector was late; the resource goes without its attributes.")
        return None
    error = job.exception()
    if error is not None:
        logger.warning("A resource detector failed: %r", error)
        return None
    return job.result()


def _combine(config: Config, detected: Sequence[Resource]) -> Resource:
    """Later ones win: ours, detected ones, the resource object given, the attributes given."""
    resource = Resource(
        {
            telemetry_attributes.TELEMETRY_SDK_LANGUAGE: "python",
            telemetry_attributes.TELEMETRY_SDK_NAME: "opentelemetry",
            telemetry_attributes.TELEMETRY_SDK_VERSION: version("opentelemetry-sdk"),
            DISTRO_NAME: "asynctrace",
            DISTRO_VERSION: version("asynctrace"),
            PROCESS_PID: os.getpid(),
        }
    )
    for other in (*detected, config.resource):
        if other is not None:
            resource = resource.merge(other)
    resource = resource.merge(Resource(config.resource_attributes))
    defaults = {}
    if not resource.attributes.get(service_attributes.SERVICE_NAME):
        # The fallback that the resource conventions prescribe.
        program = os.path.basename(sys.executable or "python")
        defaults[service_attributes.SERVICE_NAME] = f"unknown_service:{program}"
    if not resource.attributes.get(SERVICE_INSTANCE_ID):
        defaults[SERVICE_INSTANCE_ID] = str(uuid.uuid4())
    return resource.merge(Resource(defaults)) if defaults else resource

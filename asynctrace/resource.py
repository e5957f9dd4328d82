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
from typing import cast

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
# Read when this is imported: looking them up reads files, and `init` runs on an event loop.
SDK_VERSION = version("opentelemetry-sdk")
OWN_VERSION = version("asynctrace")


def described_by(config: Config) -> Resource:
    """What is known without asking anybody: the resource until the detectors have answered."""
    return _combine(config, ())


async def detect(config: Config) -> Resource:
    """The final resource: `config` and whatever its detectors answer within `resource_timeout`.

    Never raises but on cancellation. A detector that fails or is late is logged and left out;
    where two answer the same attribute, the later of them wins.
    """
    detectors = config.resource_detectors
    if "*" in detectors:
        detectors = await _threads.call(_expand, detectors)
    # "otel" reads the variables that the configuration has read already.
    answers = [
        _ask(detector, config.resource_timeout) for detector in detectors if detector != "otel"
    ]
    return _combine(config, await asyncio.gather(*answers))


async def _ask(detector: str | ResourceDetector, timeout: float) -> Resource | None:
    """What one detector answers; None, and a log line, when it fails or is late."""
    name = detector if isinstance(detector, str) else type(detector).__name__
    try:
        async with asyncio.timeout(timeout):
            return await _threads.call(_detect, detector)
    except TimeoutError:
        logger.warning(
            "The resource detector %s gave no answer within %g s; the resource goes without its "
            "attributes.",
            name,
            timeout,
        )
    except Exception as error:
        logger.warning("The resource detector %s failed: %r", name, error)
    return None


def of_forked_child(resource: Resource, *, instance_id_is_ours: bool) -> Resource:
    """The parent's resource with the identity of this process."""
    own: dict[str, str | int] = {PROCESS_PID: os.getpid()}
    if instance_id_is_ours:
        own[SERVICE_INSTANCE_ID] = str(uuid.uuid4())
    return Resource({**resource.attributes, **own}, resource.schema_url)


def _expand(detectors: Iterable[str | ResourceDetector]) -> tuple[str | ResourceDetector, ...]:
    """Every installed detector in the place of `*`."""
    given = [detector for detector in detectors if detector != "*"]
    installed = entry_points(group=ENTRY_POINTS).names
    return (*sorted(installed.difference(name for name in given if isinstance(name, str))), *given)


def _detect(detector: str | ResourceDetector) -> Resource:
    if isinstance(detector, str):
        (entry, *_) = entry_points(group=ENTRY_POINTS, name=detector)
        detector = cast("ResourceDetector", entry.load()())
    resource = detector.detect()
    if not isinstance(resource, Resource):
        raise TypeError(f"{type(detector).__name__}.detect() gave {resource!r}, not a Resource")
    return resource


def _combine(config: Config, detected: Sequence[Resource | None]) -> Resource:
    """Later ones win: ours, detected ones, the resource object given, the attributes given."""
    resource = Resource(
        {
            telemetry_attributes.TELEMETRY_SDK_LANGUAGE: "python",
            telemetry_attributes.TELEMETRY_SDK_NAME: "opentelemetry",
            telemetry_attributes.TELEMETRY_SDK_VERSION: SDK_VERSION,
            DISTRO_NAME: "asynctrace",
            DISTRO_VERSION: OWN_VERSION,
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

"""What a type checker knows about the settings. Checked by mypy and pyright, never run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, assert_type

from opentelemetry.sdk.trace.sampling import Sampler

from asynctrace.config import Config

config = Config.resolve({"service_name": "shop"}, os.environ)

assert_type(config.service_name, str | None)
assert_type(config.sampler, Sampler)
assert_type(config.headers, Mapping[str, str])
assert_type(config.protocol, Literal["http/protobuf", "http/json", "grpc"])
assert_type(config.timeout, float)
assert_type(config.max_queue_size, int)

config.timeout = 5.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
config.nonsense  # type: ignore[attr-defined]  # pyright: ignore  # noqa: B018, PGH003

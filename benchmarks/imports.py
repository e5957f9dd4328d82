"""How long imports take, each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

STATEMENTS = {
    "opentelemetry.sdk.trace": "import opentelemetry.sdk.trace",
    "and asynctrace": "import opentelemetry.sdk.trace, asynctrace",
    "and asynctrace.init": "import opentelemetry.sdk.trace, asynctrace; asynctrace.init",
    "and aiohttp": "import opentelemetry.sdk.trace, aiohttp.web",
    "and what init imports": (
        "import opentelemetry.sdk.trace, aiohttp.web, asynctrace.tracing, asynctrace.aiohttp"
    ),
    "and the OTLP exporter": (
        "import opentelemetry.sdk.trace, opentelemetry.exporter.otlp.proto.http.trace_exporter"
    ),
}

_TIMER = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def measure(*, rounds: int) -> dict[str, float]:
    """The best of so many interleaved rounds, in milliseconds."""
    best = dict.fromkeys(STATEMENTS, float("inf"))
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            command = [sys.executable, "-c", _TIMER.format(statement)]
            result = subprocess.run(command, capture_output=True, check=True, timeout=60)
            best[name] = min(best[name], float(result.stdout) * 1000)
    return best

"""Small programs in processes of their own: what happens when one forks, exits or hangs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import asynctrace

LIBRARY = Path(asynctrace.__file__).resolve().parents[1]
"""The programs import the library that the tests import, and what is in `tests.support`."""

PROJECT = Path(__file__).resolve().parents[2]
"""Where tests, examples and benchmarks are; the library may be installed elsewhere."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    code: int
    out: str
    err: str
    ended_at: float
    """Of `time.time()`: the programs print theirs, to be compared."""


def run_program(source: str, *args: str, timeout: float = 30.0, **environment: str) -> Ended:
    """Run Python `source` in a new process and wait for its end, in the calling thread."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    env |= {"PYTHONPATH": f"{LIBRARY}{os.pathsep}{PROJECT}", **environment}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr, time.time())


async def run_program_async(source: str, *args: str, **environment: str) -> Ended:
    """The same, for tests that have a loop."""
    return await asyncio.to_thread(run_program, source, *args, **environment)

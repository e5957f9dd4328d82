"""The soak, in its short form."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.programs import PROJECT


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("spool", [[], ["--spool"]], ids=["without a spool", "with a spool"])
def test_a_collector_that_is_killed_again_and_again(spool: list[str]) -> None:
    """Without a spool every loss is counted; with it nothing is lost."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--quick", "--rate", "500", *spool],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

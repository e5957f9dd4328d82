"""Against contrib in its stable mode: equal spans, but for the differences listed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

ALWAYS = {
    # contrib ends its span at the headers, and knows neither.
    "http.response.body.size",
    "asynctrace.http.time_to_headers",
    # contrib gives the name that was asked for, and before anything was connected.
    "network.peer.address",
}
ON_FAILURE = {
    # The conventions ask for the full name of the exception's class.
    "error.type",
    # contrib repeats the class in the text; the conventions ask for the message.
    "description",
    # Nothing was connected, or nothing is known of it any more.
    "network.peer.address",
    "network.peer.port",
}


@pytest.fixture(scope="module")
def spans() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each request's span, as contrib makes it and as ours does."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.httpx_client.differential_program"],
        cwd=ROOT,
        env={**os.environ, "OTEL_SEMCONV_STABILITY_OPT_IN": "http"},
        check=True,
        capture_output=True,
        timeout=30,
    )
    theirs, ours = json.loads(done.stdout)
    assert len(theirs) == len(ours) == 9
    return list(zip(theirs, ours, strict=True))


def test_no_other_difference(spans: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Every difference is an intended one, and every intended one is there."""
    for theirs, ours in spans:
        differing = {
            name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)
        }
        assert differing == (ALWAYS if "http.response.status_code" in theirs else ON_FAILURE)


def test_what_the_differences_are(spans: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Ours says more, and says it truly."""
    theirs, ours = spans[0]
    assert (theirs["network.peer.address"], ours["network.peer.address"]) == (
        "localhost",
        "127.0.0.1",
    )
    theirs, ours = spans[-1]
    assert (theirs["error.type"], ours["error.type"]) == ("ConnectError", "httpx.ConnectError")

"""Turns the code blocks of the README into tests: what is shown there is run.

The Python blocks of the document run in their order and share one namespace and one event loop;
they may use ``await`` at the top level. What a reader need not see, such as the request to a
service that was just shown, is run from an ``<!-- invisible-code-block: python ... -->`` comment.
``__name__`` is not ``"__main__"``, so that a guarded ``web.run_app(app)`` does not serve for ever.
"""

from __future__ import annotations

import ast
import asyncio
import os
import types

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

_RUNNER = "the event loop of this document"


def _run(example: Example) -> None:
    """Run one block where the traceback shows the line of the document."""
    namespace = example.namespace
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    code = compile(
        source,
        example.path,
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    block = types.FunctionType(code, namespace)
    if (waiting := block()) is not None:
        namespace[_RUNNER].run(waiting)


def _set_up(namespace: dict[str, object]) -> None:
    namespace["__name__"] = "readme"
    namespace[_RUNNER] = asyncio.Runner()


def _tear_down(namespace: dict[str, object]) -> None:
    runner = namespace[_RUNNER]
    assert isinstance(runner, asyncio.Runner)
    runner.close()


@pytest.fixture
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine, and no collector that is not there."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "TRACEPARENT", "TRACESTATE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=_run)],
    patterns=["README.md"],
    setup=_set_up,
    teardown=_tear_down,
    fixtures=["quiet_environment"],
).pytest()

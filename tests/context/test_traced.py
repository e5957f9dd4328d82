"""@traced on every kind of function, seen from outside as if it were not there."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.context import span, traced
from tests.context.recording import Recording

pytestmark = pytest.mark.usefixtures("quiet")


@traced
def double(number: int, *, plus: int = 0) -> int:
    """Twice the number."""
    return 2 * number + plus


@traced
async def wait_and_double(number: int) -> int:
    await asyncio.sleep(0)
    return double(number)


class Shop:
    @traced
    def method(self) -> str:
        return type(self).__name__

    @staticmethod
    @traced
    def inner_static() -> int:
        return 1

    @traced
    @staticmethod
    def outer_static() -> int:
        return 2

    @classmethod
    @traced
    def inner_class(cls) -> str:
        return cls.__name__

    @traced
    @classmethod
    def outer_class(cls) -> str:
        return cls.__name__

    @property
    @traced
    def price(self) -> int:
        return 3


async def test_function_and_coroutine(traced_spans: Recording) -> None:
    """Results come through, the span is named after the function, and calls nest."""
    assert await wait_and_double(4) == 8
    assert double(1, plus=1) == 3
    assert traced_spans.names() == ["double", "wait_and_double", "double"]
    assert traced_spans.spans[0].parent.span_id == traced_spans.spans[1].context.span_id


async def test_nothing_runs() -> None:
    """Without tracing the function is simply called, and every call looks again."""
    assert await wait_and_double(4) == 8
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_signature_and_nature_are_kept() -> None:
    """What introspection sees is the function: name, doc, signature, and its kind."""
    assert (double.__name__, double.__doc__) == ("double", "Twice the number.")
    assert str(inspect.signature(double)) == "(number: 'int', *, plus: 'int' = 0) -> 'int'"
    assert inspect.iscoroutinefunction(wait_and_double)
    assert inspect.isgeneratorfunction(traced(_numbers))
    assert inspect.isasyncgenfunction(traced(_async_numbers))


def _numbers() -> Any:
    yield 1


async def _async_numbers() -> Any:
    yield 1


def test_methods_of_all_kinds(traced_spans: Recording) -> None:
    """Methods, static and class methods, with the decorators in either order."""
    shop = Shop()
    assert (shop.method(), Shop.inner_static(), shop.outer_static()) == ("Shop", 1, 2)
    assert (Shop.inner_class(), shop.outer_class(), shop.price) == ("Shop", "Shop", 3)
    assert traced_spans.names() == [
        f"Shop.{name}"
        for name in (
            "method",
            "inner_static",
            "outer_static",
            "inner_class",
            "outer_class",
            "price",
        )
    ]


def test_options(traced_spans: Recording) -> None:
    """Name, kind and attributes; the attributes are those of the time of decorating."""
    attributes = {"a": 1}

    @traced(name="work", kind=SpanKind.CLIENT, attributes=attributes)
    def function() -> None:
        trace.get_current_span().set_attribute("b", 2)

    attributes["a"] = 9
    function()
    function()
    for made in traced_spans.spans:
        assert (made.name, made.kind, made.attributes) == (
            "work",
            SpanKind.CLIENT,
            {"a": 1, "b": 2},
        )


def test_empty_parentheses(traced_spans: Recording) -> None:
    """@traced() is @traced."""

    @traced()
    def function() -> int:
        return 1

    assert function() == 1
    assert traced_spans.names() == ["test_empty_parentheses.<locals>.function"]


async def test_partial_and_callable(traced_spans: Recording) -> None:
    """What has no name of its own is named after its type."""

    class Multiply:
        def __call__(self, number: int) -> int:
            return 3 * number

    assert traced(Multiply())(2) == 6
    assert await traced(functools.partial(wait_and_double, 3))() == 6
    assert traced_spans.names()[0].endswith("<locals>.Multiply")
    assert traced_spans.names()[-1] == "partial"


@pytest.mark.parametrize("thing", [Shop, 3, None.__class__])
def test_refuses_classes(thing: Any) -> None:
    """A class would silently become a function."""
    with pytest.raises(TypeError, match="functions and methods"):
        traced(thing)


async def test_exceptions(traced_spans: Recording) -> None:
    """Exceptions and cancellation pass through and are told."""

    @traced
    def fails() -> None:
        raise KeyError("x")

    @traced
    async def hangs() -> None:
        await asyncio.Event().wait()

    with pytest.raises(KeyError):
        fails()
    task = asyncio.create_task(hangs())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    failed, cancelled = traced_spans.spans
    assert failed.status.status_code is StatusCode.ERROR
    assert cancelled.attributes == {"asynctrace.cancellation.reason": "cancelled"}


async def test_recursion_and_concurrency(traced_spans: Recording) -> None:
    """One decorated function may run many times at once; each call has its own parent."""

    @traced(name="count")
    async def count(depth: int) -> int:
        await asyncio.sleep(0)
        return 0 if depth == 0 else 1 + await count(depth - 1)

    with span("root") as root:
        assert await asyncio.gather(*(count(3) for _ in range(5))) == [3] * 5
    counts = [made for made in traced_spans.spans if made.name == "count"]
    assert len(counts) == 20
    assert sum(made.parent == root.get_span_context() for made in counts) == 5

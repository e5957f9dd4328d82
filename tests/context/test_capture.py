"""@traced(capture=..., relation=...): what of a call is on its span, and whose child that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage as otel_baggage
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from asynctrace.context import baggage, span, traced
from asynctrace.errors import ConfigError
from tests.context.recording import Recording, recording

pytestmark = pytest.mark.usefixtures("quiet")


def attributes(record: Recording) -> dict[str, Any]:
    return {
        name.removeprefix("asynctrace."): value
        for name, value in dict(record.spans[-1].attributes or {}).items()
    }


def test_only_what_is_listed(traced_spans: Recording) -> None:
    """By position, by keyword, by default; plain values as they are, others as their repr."""

    @traced(capture=["order_id", "items", "rate", "return"], attributes={"a": 1})
    def total(order_id: int, card: str, items: list[int], *, rate: float = 0.5) -> int:
        return sum(items)

    assert total(7, "secret", [1, 2]) == 3
    captured = {"argument.order_id": 7, "argument.items": "[1, 2]", "argument.rate": 0.5}
    assert attributes(traced_spans) == {"a": 1, **captured, "return": 3}
    total(items=[], rate=1.5, card="secret", order_id=8)
    assert attributes(traced_spans)["argument.rate"] == 1.5
    assert "secret" not in str(traced_spans.spans[-1].attributes)


def test_a_call_that_fails(traced_spans: Recording) -> None:
    """An argument that is missing is the caller's TypeError; a failed call returns nothing."""

    @traced(capture=["number", "return"])
    def halve(number: int) -> float:
        raise ZeroDivisionError

    with pytest.raises(TypeError, match="number"):
        halve()  # type: ignore[call-arg]
    assert "argument.number" not in attributes(traced_spans)
    with pytest.raises(ZeroDivisionError):
        halve(1)
    assert attributes(traced_spans) == {"argument.number": 1, "error.type": "ZeroDivisionError"}


class Awkward:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Awkward(), "<Awkward whose repr raises RuntimeError>"),
        ("x" * 500, "x" * 500),
        (["x" * 500], "['" + "x" * 253 + "…"),
        (None, "None"),
        (True, True),
    ],
    ids=["awkward", "long text", "long repr", "None", "bool"],
)
def test_values(traced_spans: Recording, value: object, text: object) -> None:
    """Nothing that is passed fails the call, or fills the span."""

    @traced(capture=["value"])
    def take(value: object) -> None:
        pass

    take(value)
    assert attributes(traced_spans) == {"argument.value": text}


async def test_all_kinds_of_functions(traced_spans: Recording) -> None:
    """Coroutines, methods, generators and async generators."""

    @traced(name="coroutine", capture=["number", "return"])
    async def coroutine(number: int) -> int:
        return number + 1

    class Shop:
        @traced(name="method", capture=["number"])
        def method(self, number: int) -> None:
            pass

        @traced(name="class method", capture=["number"])
        @classmethod
        def make(cls, number: int) -> None:
            pass

    @traced(name="generator", capture=["number", "return"])
    def generator(number: int) -> Generator[int, None, str]:
        yield number
        return "end"

    @traced(name="async generator", capture=["number"])
    async def async_generator(number: int) -> AsyncIterator[int]:
        yield number

    await coroutine(1)
    Shop().method(2)
    Shop.make(3)
    list(generator(4))
    assert [n async for n in async_generator(5)] == [5]
    got = {
        made.name: {n.removeprefix("asynctrace."): v for n, v in made.attributes.items()}
        for made in traced_spans.spans
    }
    assert got == {
        "coroutine": {"argument.number": 1, "return": 2},
        "method": {"argument.number": 2},
        "class method": {"argument.number": 3},
        "generator": {"argument.number": 4, "return": "end"},
        "async generator": {"argument.number": 5},
    }


def test_variable_arguments(traced_spans: Recording) -> None:
    """A *parameter has no value of its own; a keyword that was really given has."""

    @traced(capture=["known"])
    def call(*args: int, known: int = 0, **more: int) -> None:
        pass

    call(1, 2, known=3, other=4)
    assert attributes(traced_spans) == {"argument.known": 3}


@given(st.integers(), st.integers(), st.integers(), st.integers(0, 3))
def test_like_python_binds(a: int, b: int, c: int, by_position: int) -> None:
    """However arguments are passed, each is found under its name."""

    @traced(capture=["a", "b", "c"])
    def call(a: int, b: int, c: int) -> None:
        pass

    given = {"a": a, "b": b, "c": c}
    names = list(given)
    with recording() as record:
        call(
            *(given[name] for name in names[:by_position]),
            **{name: given[name] for name in names[by_position:]},
        )
    assert attributes(record) == {f"argument.{name}": value for name, value in given.items()}


def test_refused() -> None:
    """A name that is no parameter, a bare string, and an unknown relation: when decorating."""
    with pytest.raises(TypeError, match="nonsense"):
        traced(capture=["nonsense"])(attributes)
    with pytest.raises(ConfigError, match="list"):
        traced(capture="record")
    with pytest.raises(ConfigError, match="link"):
        traced(relation="sibling")  # type: ignore[arg-type]


async def test_link(traced_spans: Recording) -> None:
    """relation="link" begins a trace, linked back; its own spans are in it, and baggage is."""

    @traced(name="function", relation="link")
    def function() -> object:
        with span("in function"):
            return otel_baggage.get_baggage("user")

    @traced(name="generator", relation="link")
    async def generator() -> AsyncIterator[object]:
        with span("in generator"):
            pass
        yield otel_baggage.get_baggage("user")

    with baggage(user="ann"), span("request") as request:
        assert function() == "ann"
        assert [user async for user in generator()] == ["ann"]
    assert traced_spans.parents() == {
        "request": None,
        "function": None,
        "generator": None,
        "in function": "function",
        "in generator": "generator",
    }
    for name in ("function", "generator"):
        [link] = traced_spans.one(name).links
        assert link.context == request.get_span_context()


@pytest.mark.parametrize("kind", ["function", "coroutine", "generator"])
def test_nothing_is_made_of_what_is_not_recorded(kind: str) -> None:
    """The arguments of a call that is not sampled are not looked at."""

    class Secretive:
        def __repr__(self) -> str:
            pytest.fail("looked at")

    @traced(capture=["value", "return"])
    def function(value: object) -> object:
        return value

    @traced(capture=["value", "return"])
    async def coroutine(value: object) -> None:
        pass

    @traced(capture=["value", "return"])
    def generator(value: object) -> Iterator[object]:
        yield value

    with recording(ALWAYS_OFF):
        if kind == "function":
            function(Secretive())
        elif kind == "coroutine":
            asyncio.run(coroutine(Secretive()))
        else:
            list(generator(Secretive()))

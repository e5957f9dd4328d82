"""baggage(): what travels, what does not fit, and the copies on spans."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage as otel_baggage

from asynctrace.context import baggage, create_task, span
from asynctrace.context.baggage import BaggageAttributes, BaggageScope
from asynctrace.initialization import init
from asynctrace.propagation import Propagator
from asynctrace.testing import InMemoryExporter
from tests.context.recording import Recording


@pytest.fixture(autouse=True)
def said_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once per process is said once per test."""
    monkeypatch.setattr(BaggageScope, "_told", False)


def seen() -> dict[str, object]:
    return dict(otel_baggage.get_all())


async def test_scope() -> None:
    """Entries hold inside of the block, in its tasks too, over those of before."""
    with baggage({"user.id": "7"}, tenant="acme"):
        assert seen() == {"user.id": "7", "tenant": "acme"}
        async with baggage(tenant="other", number=3):  # type: ignore[arg-type]
            assert seen() == {"user.id": "7", "tenant": "other", "number": "3"}

            async def task() -> dict[str, object]:
                return seen()

            assert (await create_task(task())) == seen()
            assert (await create_task(task(), relation="detached")) == {}
        assert seen() == {"user.id": "7", "tenant": "acme"}
    assert seen() == {}


async def test_left_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    """Left in another context, or twice, it says nothing and disturbs nothing."""
    scope = baggage(a="1")
    assert repr(scope) == "<baggage scope of a, not entered>"
    contextvars.copy_context().run(scope.__enter__)
    assert repr(scope) == "<baggage scope of a, entered>"
    scope.__exit__(None, None, None)
    scope.__exit__(None, None, None)
    assert seen() == {}
    assert caplog.text == ""


@given(
    st.dictionaries(st.sampled_from([f"key{n}" for n in range(99)]), st.text(max_size=900)),
    st.dictionaries(st.text(max_size=5), st.text(max_size=99), max_size=8),
)
def test_what_is_in_it_arrives(first: dict[str, str], second: dict[str, str]) -> None:
    """Whatever the limits of the specification let in is received, whole, by the next service."""
    propagator = Propagator.from_names(["baggage"])
    with baggage(first), baggage(second):
        inside = seen()
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        assert len(carrier.get("baggage", "")) <= 8192
        assert len(inside) <= 64
        assert dict(otel_baggage.get_all(propagator.extract(carrier))) == inside


NAMES = st.sampled_from([f"key{n}" for n in range(12)])
ENTRIES = st.dictionaries(NAMES, st.integers(0, 5000).map("x".__mul__))


@given(st.lists(ENTRIES, max_size=4))
def test_overriding(scopes: list[dict[str, str]]) -> None:
    """Each scope's value is there if it fits, else the one of before; nobody else's is lost."""
    propagator = Propagator.from_names(["baggage"])
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            before = seen()
            stack.enter_context(baggage(scope))
            now = seen()
            for name in before.keys() | scope.keys():
                assert now.get(name) in (before.get(name), scope.get(name))
                if name not in scope:
                    assert now[name] == before[name]
            if sum(len(f",{name}={value}") for name, value in {**before, **scope}.items()) <= 8193:
                assert now == {**before, **scope}
            carrier: dict[str, str] = {}
            propagator.inject(carrier)
            assert dict(otel_baggage.get_all(propagator.extract(carrier))) == now


def test_an_override_that_does_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    """It pushes nobody out, and what it would have replaced stays."""
    with baggage(a="1", b="y" * 5000, c="z" * 2000):
        before = seen()
        with baggage(a="x" * 2000):
            assert seen() == before
        with baggage(b="y", a="x" * 2000):
            assert seen() == {"a": "x" * 2000, "b": "y", "c": "z" * 2000}
    assert "'a' cannot be sent" in caplog.text


def test_what_does_not_fit_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """By name, with the limits, and never with the value."""
    with baggage({"with space": "secret", "": "secret", "big": "x" * 9000, "fits": "1"}):
        assert seen() == {"fits": "1"}
    [record] = caplog.records
    assert "'with space'" in record.getMessage()
    assert "secret" not in record.getMessage()


async def test_copies_on_spans() -> None:
    """The entries that are listed are attributes of every span, of received baggage as well."""
    exporter = InMemoryExporter()
    async with init(exporter=exporter, baggage_attributes=["user.id", "tenant"]):
        with baggage({"user.id": "7", "other": "x"}), span("inside"):
            pass
        with span("outside"):
            pass
    attributes = {made.name: dict(made.attributes) for made in exporter.spans}
    assert attributes == {"inside": {"user.id": "7"}, "outside": {}}


def test_processor(traced_spans: Recording) -> None:
    """It tells its names, and reads the context that a span is started in, not the current one."""
    processor = BaggageAttributes(["user.id"])
    assert repr(processor) == "BaggageAttributes(user.id)"
    traced_spans.tracer_provider.add_span_processor(processor)
    context = otel_baggage.set_baggage("user.id", "7")
    with baggage({"user.id": "8"}):
        traced_spans.tracer_provider.get_tracer("t").start_span("a", context).end()
    assert traced_spans.one("a").attributes == {"user.id": "7"}


async def test_concurrent_scopes() -> None:
    """Each task has its own."""

    async def work(number: int) -> object:
        with baggage(number=str(number)):
            await asyncio.sleep(0)
            return otel_baggage.get_baggage("number")

    assert await asyncio.gather(*map(work, range(5))) == list("01234")

"""Every row of the table: argument, variables, default, precedence, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from aiohttp import ClientSession
from opentelemetry.propagators.textmap import DefaultGetter  # any object that is no propagator
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_ON, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asynctrace.config import FIELDS, Config, Field
from asynctrace.config.fields import LIMITS
from asynctrace.errors import ConfigError

_EXPORTER = InMemorySpanExporter()
_DETECTOR = OTELResourceDetector()
_PROCESSOR = SpanProcessor()
_IDS = RandomIdGenerator()
_LIMITS = SpanLimits(max_events=3)
_RESOURCE = Resource({"host.name": "a"})
_PROPAGATOR = TraceContextTextMapPropagator()


def _scrub(_: str, value: object) -> object:
    return value


def _token() -> dict[str, str]:
    return {"authorization": "Bearer x"}


class _Session:
    post = request = _token


_SESSION = _Session()


class Sample(NamedTuple):
    """Texts for a setting's variables, arguments for it, and the values that they become."""

    texts: Mapping[str, object] = MappingProxyType({})
    arguments: tuple[tuple[object, object], ...] = ()
    bad_texts: tuple[str, ...] = ()
    bad_arguments: tuple[object, ...] = ()
    beside: Mapping[str, object] = MappingProxyType({})
    """Arguments without which it is of no use."""


_NO_SECONDS = (-1, float("nan"), float("inf"), "5", True, 10**400)
_NO_COUNT = (0, -1, 1.5, "5", True)
_NO_COUNT_TEXT = ("0", "-1", "1.5", "many", "99999999999", "1_0", "٣")
_NO_MILLISECONDS = ("-1", "1.5", "5s", "99999999999")
_NO_PATH = ("", 5, None.__class__)
_TLS: dict[str, object] = {"endpoint": "https://localhost:4318"}

SAMPLES: dict[str, Sample] = {
    "service_name": Sample({"shop": "shop", " x ": "x"}, (("shop", "shop"),), (), ("", " ", 5)),
    "resource_attributes": Sample(
        {"a=1": {"a": "1"}, "a=%2C%3D,b= 2 ,": {"a": ",=", "b": "2"}},
        (({"a": 1, "b": [True]}, {"a": 1, "b": [True]}),),
        ("a", "=1", "a=%", "a=%ff", "a=1,b"),
        ({"": 1}, {1: 1}, {"a": None}, {"a": object()}, {"service.name": 5}, "a=1", [("a", 1)]),
    ),
    "resource": Sample({}, ((_RESOURCE, _RESOURCE),), (), ({"a": 1}, Resource)),
    "resource_detectors": Sample(
        {"otel,process": ("otel", "process"), "*": ("*",)},
        ((["process"], ("process",)), ((_DETECTOR,), (_DETECTOR,)), ((), ())),
        ("nonsense", ","),
        ("process", ["nonsense"], [5], [OTELResourceDetector]),
    ),
    "resource_timeout": Sample({}, ((0, 0.0), (1.5, 1.5)), (), _NO_SECONDS),
    "exporters": Sample(
        {
            "console": ("console",),
            "OTLP, console": ("otlp", "console"),
            "otlp,zipkin": ("otlp", "zipkin_json"),
            "none": (),
        },
        (
            ("console", ("console",)),
            ("console, otlp", ("console", "otlp")),
            (_EXPORTER, (_EXPORTER,)),
            (["otlp", _EXPORTER], ("otlp", _EXPORTER)),
            ("none", ()),
            ((), ()),
        ),
        ("jaeger", "otlp_proto_grpc", "none,otlp", ","),
        (
            "",
            "jaeger",
            "otlp_proto_http",
            "none,otlp",
            ["none", "otlp"],
            5,
            InMemorySpanExporter,
            object(),
        ),
    ),
    "protocol": Sample(
        {"grpc": "grpc", "HTTP/JSON": "http/json"},
        (("grpc", "grpc"), ("http/json", "http/json")),
        ("http", "udp"),
        ("GRPC", 5),
    ),
    "insecure": Sample(
        {"true": True, "TRUE": True, "False": False}, ((True, True),), ("1", "yes"), (1, "true")
    ),
    "headers": Sample(
        {"Api-Key=a%20b,x=1": {"api-key": "a b", "x": "1"}, "a=Bearer b=": {"a": "Bearer b="}},
        (({"Api-Key": "é"}, {"api-key": "é"}), ({}, {})),
        ("a", "a=1,b", "a b=1", "a=%0d%0a", "a=%zz", "a=%ff", "=1"),
        ({"a b": "1"}, {"a": 1}, {"a": "1\r\nb: 2"}, {5: "1"}, "a=1"),
    ),
    "credentials": Sample({}, ((_token, _token),), (), ({"authorization": "x"}, "token")),
    "session": Sample({}, ((_SESSION, _SESSION),), (), (5, ClientSession)),
    "timeout": Sample(
        {"2500": 2.5, "0": 2147483.647},
        ((3, 3.0), (0, 2147483.647)),
        _NO_MILLISECONDS,
        _NO_SECONDS,
    ),
    "compression": Sample(
        {"gzip": "gzip", "NONE": "none"}, (("deflate", "deflate"),), ("zstd",), ("zstd", True)
    ),
    "exporter_file": Sample(
        {"spans.jsonl": "spans.jsonl"},
        (("/spans.jsonl", "/spans.jsonl"), (Path("a/b"), "a/b")),
        (),
        _NO_PATH,
    ),
    "certificate": Sample({"ca.pem": "ca.pem"}, (("ca.pem", "ca.pem"),), (), _NO_PATH, _TLS),
    "client_certificate": Sample({"me.pem": "me.pem"}, (("me.pem", "me.pem"),), (), _NO_PATH, _TLS),
    "propagators": Sample(
        {"b3": ("b3",), "baggage,b3,baggage": ("baggage", "b3"), "none": ()},
        ((["b3"], ("b3",)), (_PROPAGATOR, _PROPAGATOR), ((), ()), (["none"], ())),
        ("nonsense", "none,baggage", ","),
        ("b3", ["nonsense"], [5], DefaultGetter(), TraceContextTextMapPropagator),
    ),
    "schedule_delay": Sample(
        {"250": 0.25, "0": 0.0}, ((0, 0.0), (1.5, 1.5)), _NO_MILLISECONDS, _NO_SECONDS
    ),
    "export_timeout": Sample(
        {"250": 0.25, "0": 2147483.647}, ((1.5, 1.5),), _NO_MILLISECONDS, _NO_SECONDS
    ),
    "max_queue_size": Sample({"4096": 4096}, ((1024, 1024),), _NO_COUNT_TEXT, _NO_COUNT),
    "max_queue_bytes": Sample({}, ((1, 1),), (), _NO_COUNT),
    "max_export_batch_size": Sample({"100": 100}, ((2048, 2048),), _NO_COUNT_TEXT, _NO_COUNT),
    "spool": Sample({}, (("/spool", "/spool"), (Path("a/b"), "a/b")), (), _NO_PATH),
    "spool_max_bytes": Sample({}, ((1, 1),), (), _NO_COUNT),
    "shutdown_timeout": Sample({}, ((0, 0.0), (1.5, 1.5)), (), _NO_SECONDS),
    "max_open_spans": Sample({}, ((1, 1),), (), _NO_COUNT),
    "span_limits": Sample({}, ((_LIMITS, _LIMITS),), (), ({"max_events": 3}, SpanLimits)),
    "span_processors": Sample(
        {}, (([_PROCESSOR], (_PROCESSOR,)), ((), ())), (), (_PROCESSOR, [SpanProcessor], [5])
    ),
    "scrub": Sample({}, ((_scrub, _scrub),), (), ("scrub", {})),
    "id_generator": Sample({}, ((_IDS, _IDS),), (), (RandomIdGenerator, 5)),
    "set_global": Sample({}, ((False, False),), (), (0, "no")),
    "disabled": Sample({"true": True, "false": False}, ((True, True),), ("1", "on"), (1, "true")),
    "baggage_attributes": Sample(
        {}, ((["user.id"], ("user.id",)), ((), ())), (), ("user.id", [""], [5])
    ),
    "loop_monitor": Sample({}, ((True, True), (False, False)), (), (1, "yes")),
    "loop_block_threshold": Sample({}, ((0.05, 0.05), (1, 1.0)), (), (0, *_NO_SECONDS)),
    "engine": Sample({}, (("contrib", "contrib"),), (), ("other", 5)),
    "sampler": Sample(
        {"always_off": ALWAYS_OFF, "ALWAYS_ON": ALWAYS_ON},
        ((ALWAYS_OFF, ALWAYS_OFF),),
        ("sometimes",),
        ("always_on", TraceIdRatioBased, 0.5),
    ),
}
# What needs more than one setting at once has tests of its own, in test_resolve.py.
_TOGETHER = {"endpoint", "client_key", "sampler_argument"}
_FIELDS = [field for field in FIELDS if field.name not in _TOGETHER]


def _cases(part: str) -> list[object]:
    """One parameter for each field and each item of a part of its sample."""
    return [
        pytest.param(field, item, id=f"{field.name}-{number}")
        for field in _FIELDS
        for number, item in enumerate(getattr(SAMPLES[field.name], part))
    ]


def test_every_row_has_samples() -> None:
    """A new setting needs an argument, a text for its variables, and what they refuse."""
    assert SAMPLES.keys() == {field.name for field in _FIELDS}
    for field in _FIELDS:
        sample = SAMPLES[field.name]
        assert bool(sample.arguments) == bool(field.argument), field.name
        assert bool(sample.texts) == bool(field.variables), field.name
        assert sample.bad_arguments, field.name


@pytest.mark.parametrize(("field", "case"), _cases("arguments"))
def test_argument_is_taken(field: Field, case: tuple[object, object]) -> None:
    """The argument of a setting has an effect."""
    given, expected = case
    assert field.argument is not None
    arguments = {**SAMPLES[field.name].beside, field.argument: given}
    assert getattr(Config.resolve(arguments, {}), field.name) == expected


@pytest.mark.parametrize(("field", "text"), _cases("texts"))
def test_each_variable_is_taken(field: Field, text: str) -> None:
    """Each variable of a setting has an effect of its own."""
    for variable in field.variables:
        config = Config.resolve(SAMPLES[field.name].beside, {variable: text})
        assert getattr(config, field.name) == SAMPLES[field.name].texts[text]


@pytest.mark.parametrize("field", [f for f in _FIELDS if f.name not in {"sampler", "span_limits"}])
@pytest.mark.parametrize("nothing", ["", "  "])
def test_default_holds_without_argument_and_variable(field: Field, nothing: str) -> None:
    """An argument None and an empty or blank variable count as not set."""
    arguments = {field.argument: None} if field.argument else {}
    config = Config.resolve(arguments, dict.fromkeys(field.variables, nothing))
    assert getattr(config, field.name) == field.default


@pytest.mark.parametrize("field", [field for field in _FIELDS if field.variables])
def test_precedence(field: Field) -> None:
    """The argument beats every variable; an earlier variable beats a later one."""
    sample = SAMPLES[field.name]
    text, *_ = sample.texts
    argument, expected = sample.arguments[0]
    environ = dict.fromkeys(field.variables, text)
    assert field.argument is not None
    config = Config.resolve({**sample.beside, field.argument: argument}, environ)
    assert getattr(config, field.name) == expected
    for first, second in itertools.pairwise(field.variables):
        texts = [*sample.texts][:2]
        bad = sample.bad_texts[0] if sample.bad_texts else texts[-1]
        config = Config.resolve(sample.beside, {first: texts[0], second: bad})
        assert getattr(config, field.name) == sample.texts[texts[0]]


@pytest.mark.parametrize(("field", "text"), _cases("bad_texts"))
def test_unusable_text_names_the_variable(field: Field, text: str) -> None:
    """A variable that cannot be read is refused by its own name, with a remedy."""
    for variable in field.variables:
        with pytest.raises(ConfigError) as info:
            Config.resolve({}, {variable: text})
        assert info.value.setting == variable
        assert info.value.value == ("***" if field.name == "headers" else text)
        assert info.value.remedy


@pytest.mark.parametrize(("field", "value"), _cases("bad_arguments"))
def test_unusable_argument_names_the_argument(field: Field, value: object) -> None:
    """An argument that cannot be used is refused by its name, with a remedy."""
    assert field.argument is not None
    with pytest.raises(ConfigError) as info:
        Config.resolve({field.argument: value}, {})
    assert info.value.setting == field.argument
    assert info.value.remedy


@pytest.mark.parametrize("field", LIMITS, ids=lambda field: field.name)
def test_limits_come_from_their_variables(field: Field) -> None:
    """Each variable sets its limit, the specific one first, and is refused by name."""
    for variable in field.variables:
        limits = Config.resolve({}, {variable: "7"}).span_limits
        assert getattr(limits, field.name) == 7
        with pytest.raises(ConfigError) as info:
            Config.resolve({}, {variable: "-7"})
        assert info.value.setting == variable
    ranked = {variable: str(rank) for rank, variable in enumerate(field.variables)}
    assert getattr(Config.resolve({}, ranked).span_limits, field.name) == 0
    assert getattr(Config.resolve({}, {}).span_limits, field.name) == field.default


def test_limits_do_not_depend_on_the_environment_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What counts is the environment that was handed in, also for a limit that is not set."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "3")
    limits = Config.resolve({}, {}).span_limits
    assert limits.max_attribute_length is None
    assert limits.max_span_attribute_length is None
    assert limits.max_events == 128


def test_default_sampler() -> None:
    """Without a word, roots are kept and children follow their parents."""
    assert Config.resolve({}, {}).sampler is DEFAULT_ON

"""FIELDS, the one table of settings; code, documentation and tests follow from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import Sampler

from asynctrace.config import checks, endpoint, plugins, sampler, text

PROTOCOLS: Final = ("http/protobuf", "http/json", "grpc")
COMPRESSIONS: Final = ("none", "gzip", "deflate")
EXPORTERS: Final = ("otlp", "otlp_file", "otlp/stdout", "console", "none")


def _shown(value: object) -> object:
    return value


def _hidden(value: object) -> object:
    """The names of a mapping are no secret, its values are; of anything else, everything is."""
    return dict.fromkeys(value, "***") if isinstance(value, Mapping) else "***"


def _secret(value: object) -> object:
    return None if value is None else "***"


_SECRET_NAME: Final = re.compile(r"auth|cred|key|pass|pwd|secret|sign|token", re.IGNORECASE)


def masked_unknown(name: str, value: object, meant: str | None) -> object:
    """The value of a setting that there is not, as fit to be printed as that of the one `meant`."""
    if _SECRET_NAME.search(name):
        return _secret(value)
    if meant is not None:
        value = ARGUMENTS[meant].mask(value)
    return _hidden(value) if isinstance(value, Mapping) else endpoint.masked(value)


def _unreadable(_: str) -> object:
    raise AssertionError("a setting without variables is never read from text")


def _unacceptable(_: object) -> object:
    raise AssertionError("a setting without an argument is never given as one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One setting: where it comes from, how it is read, what it is for.

    ``read`` turns the text of a variable into the value, ``check`` does so with an argument; both
    raise ValueError with the remedy. ``mask`` makes the value fit to be printed.
    """

    name: str
    help: str
    argument: str | None = None
    variables: tuple[str, ...] = ()  # in order of precedence
    default: object = None
    read: Callable[[str], object] = _unreadable
    check: Callable[[object], object] = _unacceptable
    mask: Callable[[object], object] = _shown
    unset: str = "none"  # how the documentation calls a default of None


def _otlp(name: str) -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"


def _exporter(value: object) -> object:
    if not isinstance(value, str):
        return checks.having("export", remedy="give an object with a method export()")(value)
    if value in ("otlp_proto_grpc", "otlp_proto_http"):
        protocol = "grpc" if value.endswith("grpc") else "http/protobuf"
        raise ValueError(f"use otlp, and {protocol} as the protocol")
    if value in EXPORTERS:
        return value
    return plugins.require_exporter(value, beside=EXPORTERS)


def _exporters(names: tuple[object, ...]) -> tuple[object, ...]:
    """``none`` stands for an empty list and does not go together with others."""
    checked = tuple(_exporter(item) for item in names)
    if "none" in checked and len(checked) > 1:
        raise ValueError("use none alone, or leave it out")
    return () if checked == ("none",) else checked


def _exporters_argument(value: object) -> object:
    """A string may be a comma list, as in the variable."""
    items = text.names(value) if isinstance(value, str) else checks.one_or_more(_shown)(value)
    return _exporters(items)


def _propagators(names: tuple[str, ...]) -> tuple[str, ...]:
    if "none" in names:
        if len(names) > 1:
            raise ValueError("use none alone, or leave it out")
        return ()
    for name in names:
        plugins.require("opentelemetry_propagator", name, beside=("tracecontext", "baggage"))
    return names


def _propagators_argument(value: object) -> object:
    if checks.is_list(value):
        return _propagators(tuple(dict.fromkeys(checks.string(name) for name in value)))
    remedy = "give a list of names, or one propagator"
    return checks.having("inject", "extract", remedy=remedy)(value)


def _detector(value: object) -> object:
    if not isinstance(value, str):
        return checks.having("detect", remedy="give names or objects with a method detect()")(value)
    return plugins.require("opentelemetry_resource_detector", value, beside=("otel", "*"))


def _detector_names(given: str) -> tuple[object, ...]:
    return tuple(_detector(name) for name in text.names(given))


FIELDS: Final[tuple[Field, ...]] = (
    Field(
        name="service_name",
        argument="service_name",
        variables=("OTEL_SERVICE_NAME",),
        read=text.string,
        check=checks.string,
        unset="`service.name` of the resource attributes",
        help="The name of this service.",
    ),
    Field(
        name="resource_attributes",
        argument="resource_attributes",
        variables=("OTEL_RESOURCE_ATTRIBUTES",),
        default=MappingProxyType({}),
        read=text.attributes,
        check=checks.attributes,
        help="What else describes this process. Argument and variable are merged, the argument "
        "winning for each name.",
    ),
    Field(
        name="resource",
        argument="resource",
        check=checks.instance(Resource, "give an opentelemetry.sdk.resources.Resource"),
        help="A resource of OpenTelemetry, merged over the detected one.",
    ),
    Field(
        name="resource_detectors",
        argument="resource_detectors",
        variables=("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",),
        default=("otel",),
        read=_detector_names,
        check=checks.several(_detector),
        help="Detectors that describe the surroundings: names, or objects. `*` is every installed "
        "one.",
    ),
    Field(
        name="resource_timeout",
        argument="resource_timeout",
        default=2.0,
        check=checks.seconds,
        help="Seconds that all detectors together have at the start.",
    ),
    Field(
        name="exporters",
        argument="exporter",
        variables=("OTEL_TRACES_EXPORTER",),
        default=("otlp",),
        read=lambda given: _exporters(text.names(given.lower())),
        check=_exporters_argument,
        help="Where spans go: `otlp`, `otlp_file`, `otlp/stdout`, `console`, `none`, `zipkin` or "
        "another that a package has registered, an exporter object, or several of them. An empty "
        "list is `none`.",
    ),
    Field(
        name="exporter_file",
        argument="exporter_file",
        variables=("ASYNCTRACE_EXPORTER_FILE",),
        read=text.string,
        check=checks.file,
        help="The file that `otlp_file` appends to: OTLP as JSON, a line for each batch.",
    ),
    Field(
        name="endpoint",
        argument="endpoint",
        variables=_otlp("ENDPOINT"),
        read=text.string,
        check=checks.string,
        mask=endpoint.masked,
        unset="`http://localhost:4318`, gRPC `http://localhost:4317`",
        help="The collector's URL. `/v1/traces` is appended to the general variable, and to the "
        "argument unless it ends so; the variable for traces is used as it is.",
    ),
    Field(
        name="protocol",
        argument="protocol",
        variables=_otlp("PROTOCOL"),
        default="http/protobuf",
        read=text.choice(*PROTOCOLS),
        check=checks.choice(*PROTOCOLS),
        help="How OTLP travels: `http/protobuf`, `http/json` or `grpc`.",
    ),
    Field(
        name="insecure",
        argument="insecure",
        variables=_otlp("INSECURE"),
        default=False,
        read=text.boolean,
        check=checks.flag,
        help="Whether a gRPC endpoint without a scheme is reached without TLS.",
    ),
    Field(
        name="headers",
        argument="headers",
        variables=_otlp("HEADERS"),
        default=MappingProxyType({}),
        read=text.headers,
        check=checks.headers,
        mask=_hidden,
        help="Headers of every export, such as credentials; in the variables `name=value` pairs, "
        "comma-separated and percent-encoded. Sent as UTF-8; gRPC takes ASCII, and anything for "
        "names that end with `-bin`.",
    ),
    Field(
        name="credentials",
        argument="credentials",
        check=checks.function,
        mask=_secret,
        help="A function, async or not, that returns headers such as a token's. It is called "
        "before the first export, and again when the collector answers 401 or UNAUTHENTICATED.",
    ),
    Field(
        name="session",
        argument="session",
        check=checks.having("post", "request", remedy="give an aiohttp.ClientSession"),
        unset="one of our own",
        help="The `aiohttp.ClientSession` that OTLP over HTTP is sent with, and that stays yours "
        "to close.",
    ),
    Field(
        name="timeout",
        argument="timeout",
        variables=_otlp("TIMEOUT"),
        default=10.0,
        read=text.timeout,
        check=checks.timeout,
        help="Seconds for one request to the collector, 0 for no limit. The variables are in "
        "milliseconds, as the specification says (opentelemetry-python takes them for seconds).",
    ),
    Field(
        name="compression",
        argument="compression",
        variables=_otlp("COMPRESSION"),
        default="none",
        read=text.choice(*COMPRESSIONS),
        check=checks.choice(*COMPRESSIONS),
        help="Compression of the requests: `none`, `gzip` or `deflate`.",
    ),
    Field(
        name="certificate",
        argument="certificate",
        variables=_otlp("CERTIFICATE"),
        read=text.string,
        check=checks.path,
        unset="the system's certificates",
        help="PEM file with the authorities that the collector's certificate is checked against.",
    ),
    Field(
        name="client_certificate",
        argument="client_certificate",
        variables=_otlp("CLIENT_CERTIFICATE"),
        read=text.string,
        check=checks.path,
        help="PEM file with the certificate by which this process shows who it is.",
    ),
    Field(
        name="client_key",
        argument="client_key",
        variables=_otlp("CLIENT_KEY"),
        read=text.string,
        check=checks.path,
        unset="in the client certificate's file",
        help="PEM file with the private key of the client certificate.",
    ),
    Field(
        name="sampler",
        argument="sampler",
        variables=("OTEL_TRACES_SAMPLER",),
        default="parentbased_always_on",
        read=sampler.name,
        check=checks.instance(Sampler, "give a Sampler of opentelemetry.sdk.trace.sampling"),
        help="Which traces are kept: in the variable a name of the specification or a registered "
        "one, as argument a sampler.",
    ),
    Field(
        name="sampler_argument",
        variables=("OTEL_TRACES_SAMPLER_ARG",),
        read=text.string,
        unset="1.0 for the ratio samplers",
        help="The argument of the sampler in OTEL_TRACES_SAMPLER, such as the ratio to keep.",
    ),
    Field(
        name="propagators",
        argument="propagators",
        variables=("OTEL_PROPAGATORS",),
        default=("tracecontext", "baggage"),
        read=lambda given: _propagators(text.names(given)),
        check=_propagators_argument,
        help="The formats in which context travels: names, or one propagator object.",
    ),
    Field(
        name="schedule_delay",
        argument="schedule_delay",
        variables=("OTEL_BSP_SCHEDULE_DELAY",),
        default=5.0,
        read=text.duration,
        check=checks.seconds,
        help="Seconds that a span waits at most for its batch to fill; the variable is in "
        "milliseconds.",
    ),
    Field(
        name="export_timeout",
        argument="export_timeout",
        variables=("OTEL_BSP_EXPORT_TIMEOUT",),
        default=30.0,
        read=text.timeout,
        check=checks.timeout,
        help="Seconds for the delivery of one batch with all its retries, 0 for no limit; the "
        "variable is in milliseconds.",
    ),
    Field(
        name="max_queue_size",
        argument="max_queue_size",
        variables=("OTEL_BSP_MAX_QUEUE_SIZE",),
        default=2048,
        read=text.count(at_least=1),
        check=checks.count(at_least=1),
        help="Spans that wait at most; newer ones are dropped and counted.",
    ),
    Field(
        name="max_queue_bytes",
        argument="max_queue_bytes",
        default=64 * 2**20,
        check=checks.count(at_least=1),
        help="Bytes that waiting spans take at most.",
    ),
    Field(
        name="max_export_batch_size",
        argument="max_export_batch_size",
        variables=("OTEL_BSP_MAX_EXPORT_BATCH_SIZE",),
        default=512,
        read=text.count(at_least=1),
        check=checks.count(at_least=1),
        help="Spans in one request at most; never more than `max_queue_size`.",
    ),
    Field(
        name="spool",
        argument="spool",
        check=checks.directory,
        help="A directory for spans that cannot be delivered: they wait there, on disk, until the "
        "collector is back, also across restarts. Processes may share it.",
    ),
    Field(
        name="spool_max_bytes",
        argument="spool_max_bytes",
        default=256 * 2**20,
        check=checks.count(at_least=1),
        help="Bytes that the spool takes at most; the oldest spans are deleted for the newest.",
    ),
    Field(
        name="shutdown_timeout",
        argument="shutdown_timeout",
        default=5.0,
        check=checks.seconds,
        help="Seconds that the end takes at most.",
    ),
    Field(
        name="max_open_spans",
        argument="max_open_spans",
        default=10_000,
        check=checks.count(at_least=1),
        help="Started spans that are kept track of until they end.",
    ),
    Field(
        name="span_limits",
        argument="span_limits",
        check=checks.instance(SpanLimits, "give an opentelemetry.sdk.trace.SpanLimits"),
        unset="the limits below",
        help="All limits of a span at once, instead of the variables below.",
    ),
    Field(
        name="span_processors",
        argument="span_processors",
        default=(),
        check=checks.several(
            checks.having("on_start", "on_end", remedy="give SpanProcessor objects")
        ),
        help="Processors that see every span before it is encoded.",
    ),
    Field(
        name="scrub",
        argument="scrub",
        check=checks.function,
        help="A function `(name, value) -> value` that every attribute, event and exception text "
        "passes before it is encoded.",
    ),
    Field(
        name="id_generator",
        argument="id_generator",
        check=checks.having(
            "generate_span_id", "generate_trace_id", remedy="give an IdGenerator object"
        ),
        unset="random",
        help="What makes the ids.",
    ),
    Field(
        name="set_global",
        argument="set_global",
        default=True,
        check=checks.flag,
        help="Whether this is the tracing of the whole process.",
    ),
    Field(
        name="disabled",
        argument="disabled",
        variables=("OTEL_SDK_DISABLED",),
        default=False,
        read=text.boolean,
        check=checks.flag,
        help="Record and send nothing; context is still passed on.",
    ),
    Field(
        name="baggage_attributes",
        argument="baggage_attributes",
        default=(),
        check=checks.several(checks.string),
        help="Names of baggage entries that are copied to the attributes of every span.",
    ),
    Field(
        name="loop_monitor",
        argument="loop_monitor",
        default=False,
        check=checks.flag,
        help="Watch the event loop: measure its lag, tell on the span that runs when it blocks.",
    ),
    Field(
        name="loop_block_threshold",
        argument="loop_block_threshold",
        default=0.1,
        check=checks.some_seconds,
        help="Seconds without a step of the event loop from which on it counts as blocked.",
    ),
    Field(
        name="engine",
        argument="engine",
        default="asynctrace",
        check=checks.choice("asynctrace", "contrib"),
        help="Whose instrumentation of aiohttp and httpx is used: `asynctrace`, or `contrib` for "
        "OpenTelemetry's.",
    ),
)


def _limit(name: str, *variables: str, default: int | None, help: str) -> Field:  # noqa: A002
    return Field(
        name=name,
        variables=tuple(f"OTEL_{variable}_LIMIT" for variable in variables),
        default=default,
        read=text.count(),
        unset="no limit",
        help=help,
    )


# The parts of span_limits; the names are those of the arguments of SpanLimits.
LIMITS: Final[tuple[Field, ...]] = (
    _limit(
        "max_span_attributes",
        "SPAN_ATTRIBUTE_COUNT",
        "ATTRIBUTE_COUNT",
        default=128,
        help="Attributes of a span.",
    ),
    _limit(
        "max_event_attributes",
        "EVENT_ATTRIBUTE_COUNT",
        "ATTRIBUTE_COUNT",
        default=128,
        help="Attributes of an event.",
    ),
    _limit(
        "max_link_attributes",
        "LINK_ATTRIBUTE_COUNT",
        "ATTRIBUTE_COUNT",
        default=128,
        help="Attributes of a link.",
    ),
    _limit("max_attributes", "ATTRIBUTE_COUNT", default=128, help="Attributes of anything else."),
    _limit("max_events", "SPAN_EVENT_COUNT", default=128, help="Events of a span."),
    _limit("max_links", "SPAN_LINK_COUNT", default=128, help="Links of a span."),
    _limit(
        "max_span_attribute_length",
        "SPAN_ATTRIBUTE_VALUE_LENGTH",
        "ATTRIBUTE_VALUE_LENGTH",
        default=None,
        help="Characters of an attribute's value on a span.",
    ),
    _limit(
        "max_attribute_length",
        "ATTRIBUTE_VALUE_LENGTH",
        default=None,
        help="Characters of an attribute's value on anything else.",
    ),
)

ARGUMENTS: Final[Mapping[str, Field]] = MappingProxyType(
    {field.argument: field for field in FIELDS if field.argument}
)

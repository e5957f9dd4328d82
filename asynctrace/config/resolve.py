"""Config: the table of settings applied to arguments and an environment."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import Resource, ResourceDetector
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

from asynctrace.config import endpoint, sampler
from asynctrace.config.fields import ARGUMENTS, FIELDS, LIMITS, Field, masked_unknown
from asynctrace.errors import ConfigError

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from opentelemetry.util.types import AnyValue

_SERVICE_NAME: Final = "service.name"
_FIELD: Final[Mapping[str, Field]] = MappingProxyType({field.name: field for field in FIELDS})


class _Given(NamedTuple):
    """A value and the argument or variable that it came from; None for a default."""

    value: Any
    source: str | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Config:
    """Every setting, resolved and checked. Times are in seconds.

    ``endpoint`` is final: over HTTP the complete URL for traces, over gRPC scheme, host and port.
    ``service_name`` is None when nobody gave one; otherwise ``resource_attributes`` has it, too.
    ``repr`` shows what differs from the defaults and hides what may be secret.
    """

    service_name: str | None
    resource_attributes: Mapping[str, AnyValue]
    resource: Resource | None
    resource_detectors: tuple[str | ResourceDetector, ...]
    resource_timeout: float
    exporters: tuple[object, ...]  # "otlp", "console", or whatever has export()
    exporter_file: str | None
    endpoint: str
    protocol: Literal["http/protobuf", "http/json", "grpc"]
    insecure: bool
    headers: Mapping[str, str]
    credentials: Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]] | None
    session: ClientSession | None
    timeout: float
    compression: Literal["none", "gzip", "deflate"]
    certificate: str | None
    client_certificate: str | None
    client_key: str | None
    sampler: Sampler
    propagators: tuple[str, ...] | TextMapPropagator
    schedule_delay: float
    export_timeout: float
    max_queue_size: int
    max_queue_bytes: int
    max_export_batch_size: int
    spool: str | None
    spool_max_bytes: int
    shutdown_timeout: float
    max_open_spans: int
    span_limits: SpanLimits
    span_processors: tuple[SpanProcessor, ...]
    scrub: Callable[[str, object], object] | None
    id_generator: IdGenerator | None
    set_global: bool
    disabled: bool
    baggage_attributes: tuple[str, ...]
    loop_monitor: bool
    loop_block_threshold: float
    engine: Literal["asynctrace", "contrib"]

    @classmethod
    def resolve(cls, arguments: Mapping[str, object], environ: Mapping[str, str]) -> Config:
        """Apply the table. An argument that is None counts as not given.

        Raises ConfigError for an unknown argument, and for the first value that cannot be used.
        """
        _refuse_unknown(arguments)
        given = {field.name: _look_up(field, arguments, environ) for field in FIELDS}
        values = {name: value for name, (value, _) in given.items() if name != "sampler_argument"}
        values.update(
            _identity(given, environ),
            endpoint=_endpoint(given),
            sampler=_sampler(given),
            span_limits=given["span_limits"].value or _span_limits(environ),
            max_export_batch_size=_batch_size(given),
        )
        _refuse_lonely_key(given)
        _refuse_idle_certificate(given, values["endpoint"])
        _refuse_session(given, values["endpoint"])
        return cls(**values)

    def __repr__(self) -> str:
        shown = _shown(self)
        usual = _shown_by_default()
        differing = (f"{name}={text}" for name, text in shown.items() if text != usual[name])
        return f"Config({', '.join(differing)})"


def _refuse_unknown(arguments: Mapping[str, object]) -> None:
    for name, value in arguments.items():
        if name not in ARGUMENTS:
            near = difflib.get_close_matches(name, ARGUMENTS, n=1, cutoff=0.6)
            meant = near[0] if near else None
            advice = f"did you mean {meant}?" if near else f"there are {', '.join(ARGUMENTS)}"
            shown = masked_unknown(name, value, meant)
            raise ConfigError(name, shown, f"there is no such setting; {advice}")


def _look_up(field: Field, arguments: Mapping[str, object], environ: Mapping[str, str]) -> _Given:
    """The argument, then the variables in their order, then the default."""
    if field.argument is not None and (value := arguments.get(field.argument)) is not None:
        return _Given(_accept(field.check, value, field.argument, field.mask), field.argument)
    for variable in field.variables:
        if text := environ.get(variable, "").strip():
            return _Given(_accept(field.read, text, variable, field.mask), variable)
    return _Given(field.default, None)


def _accept(
    convert: Callable[[Any], object], value: object, source: str, mask: Callable[[object], object]
) -> object:
    try:
        return convert(value)
    except ValueError as error:
        # "from None": the remedy is all that it says.
        raise ConfigError(source, mask(value), str(error)) from None


def _identity(given: Mapping[str, _Given], environ: Mapping[str, str]) -> dict[str, object]:
    """The service's name and the resource attributes, which may give each other.

    Arguments beat variables, and among those the name's own setting beats the list.
    """
    described = _look_up(_FIELD["resource_attributes"], {}, environ).value
    listed = given["resource_attributes"]
    told = listed.value if listed.source == _FIELD["resource_attributes"].argument else {}
    name, source = given["service_name"]
    if source != _FIELD["service_name"].argument:
        name = told.get(_SERVICE_NAME, name)
    if name is None:
        name = described.get(_SERVICE_NAME)
    attributes = {**described, **told}
    if name is not None:
        attributes[_SERVICE_NAME] = name
    return {"service_name": name, "resource_attributes": MappingProxyType(attributes)}


def _endpoint(given: Mapping[str, _Given]) -> str:
    url, source = given["endpoint"]
    protocol = given["protocol"].value
    field = _FIELD["endpoint"]

    def final(url: str) -> str:
        return endpoint.final_url(
            url,
            protocol=protocol,
            as_is=source == field.variables[0]
            or (source == field.argument and endpoint.is_for_traces(url)),
            insecure=given["insecure"].value,
        )

    if source is None:
        return final(endpoint.DEFAULTS[protocol])
    return str(_accept(final, url, source, field.mask))


def _sampler(given: Mapping[str, _Given]) -> Sampler:
    chosen, source = given["sampler"]
    if isinstance(chosen, Sampler):
        return chosen
    # The specification: the argument counts only where the sampler is named.
    argument, argument_source = given["sampler_argument"] if source else _Given(None, None)
    try:
        return sampler.build(chosen, argument)
    except ValueError as error:
        raise ConfigError(
            argument_source or source or "sampler", argument or chosen, str(error)
        ) from error


def _span_limits(environ: Mapping[str, str]) -> SpanLimits:
    limits = {field.name: _look_up(field, {}, environ).value for field in LIMITS}
    # Left out, or None, the SDK would read the process's environment once more, and differently.
    return SpanLimits(
        **{name: SpanLimits.UNSET if limit is None else limit for name, limit in limits.items()}
    )


def _batch_size(given: Mapping[str, _Given]) -> int:
    """A batch cannot be larger than the queue. The default gives way, a user's word does not."""
    size, source = given["max_export_batch_size"]
    queue: int = given["max_queue_size"].value
    if source is not None and size > queue:
        raise ConfigError(
            source, size, f"give at most max_queue_size, which is {queue}, or raise that"
        )
    return int(min(size, queue))


def _refuse_lonely_key(given: Mapping[str, _Given]) -> None:
    key, source = given["client_key"]
    if source is not None and given["client_certificate"].value is None:
        raise ConfigError(source, key, "set the client certificate that it belongs to, too")


def _refuse_idle_certificate(given: Mapping[str, _Given], endpoint: str) -> None:
    """One that is given and not used: the spans, and any credentials, would travel in the clear."""
    sent = "otlp" in given["exporters"].value and not given["disabled"].value
    if not sent or urlsplit(endpoint).scheme == "https":
        return
    for name in ("certificate", "client_certificate"):
        path, source = given[name]
        # The last of the variables, the general one, may be meant for another signal.
        if source is not None and source != _FIELD[name].variables[-1]:
            remedy = "leave it out, or give an endpoint that begins with https://"
            raise ConfigError(source, path, remedy)


def _refuse_session(given: Mapping[str, _Given], endpoint: str) -> None:
    """A session that could not be used as it is meant would silently do something else."""
    session, source = given["session"]
    if source is None:
        return
    if given["protocol"].value == "grpc":
        remedy = (
            "leave it out, or use http/protobuf as the protocol: aiohttp speaks HTTP/1, and gRPC "
            "needs HTTP/2, for which there is a connection of our own"
        )
        raise ConfigError(source, session, remedy)
    authorized = (
        "@" in urlsplit(endpoint).netloc
        or "authorization" in given["headers"].value
        or given["credentials"].source is not None
    )
    if authorized and getattr(session, "auth", None) is not None:
        # aiohttp refuses each request that has both.
        remedy = (
            "give one that has no auth of its own, or leave out the credentials in endpoint, "
            "headers or credentials: there is room for one Authorization"
        )
        raise ConfigError(source, session, remedy)


def _shown(config: Config) -> dict[str, str]:
    return {
        name: repr(_FIELD[name].mask(getattr(config, name)))
        for name in _FIELD
        if name != "sampler_argument"
    }


@cache
def _shown_by_default() -> dict[str, str]:
    return _shown(Config.resolve({}, {}))

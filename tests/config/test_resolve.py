"""Settings that depend on each other, names that nobody knows, and what is never shown."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from asynctrace.config import Config
from asynctrace.errors import ConfigError

TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
GENERAL = "OTEL_EXPORTER_OTLP_ENDPOINT"


def _resolve(environ: dict[str, str] | None = None, **arguments: object) -> Config:
    return Config.resolve(arguments, environ or {})


def _refused(environ: dict[str, str] | None = None, **arguments: object) -> ConfigError:
    with pytest.raises(ConfigError) as info:
        _resolve(environ, **arguments)
    return info.value


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("endpont", "endpoint"),
        ("exporters", "exporter"),
        ("service", "service_name"),
        ("sampler_arg", "sampler"),
        ("max_queue", "max_queue_size"),
    ],
)
def test_unknown_argument_suggests_the_nearest(wrong: str, right: str) -> None:
    """A typo is answered with what was probably meant, and with what was given."""
    error = _refused(**{wrong: "given"})
    assert error.setting == wrong
    assert f"did you mean {right}?" in error.remedy
    assert f"{wrong}='given'" in str(error)


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        ("header", {"x-tenant": "s3cret"}),
        ("header", "x-tenant=s3cret"),
        ("zzz", {"x-tenant": "s3cret"}),
        ("endpont", "http://user:s3cret@a/?token=s3cret"),
        ("collector", "http://user:s3cret@a/"),
        ("credentails", lambda: {"s3cret": "s3cret"}),
        ("token", "s3cret"),
        ("api_key", "s3cret"),
        ("Authorization", "Bearer s3cret"),
    ],
)
def test_what_may_be_secret_is_not_shown_under_a_wrong_name(wrong: str, value: object) -> None:
    """As little as under the right one; and what is called a secret is one."""
    error = _refused(**{wrong: value})
    assert "***" in str(error)
    assert "s3cret" not in f"{error} {error!r} {error.value}"


def test_unknown_argument_without_a_neighbour_lists_all() -> None:
    """Where no guess is near, the known arguments are listed."""
    assert "service_name, resource_attributes" in _refused(zzz=1).remedy


def test_a_row_without_an_argument_is_not_one() -> None:
    """The sampler's argument exists as a variable only."""
    assert _refused(sampler_argument="0.5").setting == "sampler_argument"


# --- the endpoint --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "arguments", "url"),
    [
        ({}, {}, "http://localhost:4318/v1/traces"),
        ({}, {"protocol": "http/json"}, "http://localhost:4318/v1/traces"),
        ({}, {"protocol": "grpc"}, "http://localhost:4317"),
        ({GENERAL: "http://a"}, {}, "http://a/v1/traces"),
        ({GENERAL: "http://a/"}, {}, "http://a/v1/traces"),
        ({GENERAL: "https://a:1/b//"}, {}, "https://a:1/b/v1/traces"),
        ({GENERAL: "http://a/v1/traces"}, {}, "http://a/v1/traces/v1/traces"),
        ({GENERAL: "http://[::1]:4318?k=v"}, {}, "http://[::1]:4318/v1/traces?k=v"),
        ({TRACES: "http://a"}, {}, "http://a"),
        ({TRACES: "http://a/b/"}, {}, "http://a/b/"),
        ({TRACES: "http://a/t", GENERAL: "http://b"}, {}, "http://a/t"),
        ({TRACES: "http://a/t"}, {"endpoint": "http://c"}, "http://c/v1/traces"),
        ({}, {"endpoint": "HTTPS://c/v1/traces"}, "HTTPS://c/v1/traces"),
        ({}, {"endpoint": "http://c/x/v1/traces/"}, "http://c/x/v1/traces/"),
        ({}, {"endpoint": "http://c/?x=/v1/traces"}, "http://c/v1/traces?x=/v1/traces"),
        ({GENERAL: "http://a:1/"}, {"protocol": "grpc"}, "http://a:1"),
        ({GENERAL: "a:1"}, {"protocol": "grpc"}, "https://a:1"),
        ({GENERAL: "a:1"}, {"protocol": "grpc", "insecure": True}, "http://a:1"),
        ({GENERAL: "https://a:1"}, {"protocol": "grpc", "insecure": True}, "https://a:1"),
        ({TRACES: "[::1]:1"}, {"protocol": "grpc"}, "https://[::1]:1"),
    ],
)
def test_endpoint(environ: dict[str, str], arguments: dict[str, object], url: str) -> None:
    """The general endpoint is a base, the traces endpoint is final, gRPC has no path."""
    assert _resolve(environ, **arguments).endpoint == url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:4318",
        "ftp://a",
        "http://",
        "http://:1",
        "http://a:99999",
        "http://a b",
        "http://a..b",
        f"http://{'a' * 64}",
    ],
)
@pytest.mark.parametrize("setting", [TRACES, GENERAL, "endpoint"])
def test_unusable_endpoint(setting: str, url: str) -> None:
    """A URL that leads nowhere is refused under the name by which it was given."""
    given = {"endpoint": url} if setting == "endpoint" else {}
    error = _refused({} if given else {setting: url}, **given)
    assert error.setting == setting
    assert error.value == url


def test_endpoint_is_a_string() -> None:
    """A URL object of some library is not converted by guess."""
    assert _refused(endpoint=4318).value == 4318


def test_grpc_refuses_a_path() -> None:
    """A path would be ignored silently by gRPC, so it is refused."""
    assert "no path" in _refused(protocol="grpc", endpoint="http://a:4318/v1/traces").remedy


# --- service name and resource -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environ", "name"),
    [
        ({}, {}, None),
        ({}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=d"}, "d"),
        ({}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=d", "OTEL_SERVICE_NAME": "c"}, "c"),
        ({"resource_attributes": {"service.name": "b"}}, {"OTEL_SERVICE_NAME": "c"}, "b"),
        (
            {"resource_attributes": {"x": 1}},
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=d", "OTEL_SERVICE_NAME": "c"},
            "c",
        ),
        ({"service_name": "a", "resource_attributes": {"service.name": "b"}}, {}, "a"),
    ],
)
def test_service_name(
    arguments: dict[str, object], environ: dict[str, str], name: str | None
) -> None:
    """Arguments beat variables, and the name's own setting beats the attribute list."""
    config = _resolve(environ, **arguments)
    assert config.service_name == name
    assert config.resource_attributes.get("service.name") == name


def test_resource_attributes_are_merged() -> None:
    """What operators add by the variable stays, unless the argument says otherwise."""
    config = _resolve({"OTEL_RESOURCE_ATTRIBUTES": "a=1,b=2"}, resource_attributes={"b": 3})
    assert config.resource_attributes == {"a": "1", "b": 3}


# --- the sampler ---------------------------------------------------------------------------------


def _sampler(name: str, argument: str | None = None) -> Sampler:
    environ = {"OTEL_TRACES_SAMPLER": name}
    if argument is not None:
        environ["OTEL_TRACES_SAMPLER_ARG"] = argument
    return _resolve(environ).sampler


@pytest.mark.parametrize(("argument", "rate"), [("0.25", 0.25), ("0", 0.0), (None, 1.0)])
def test_ratio_samplers_take_their_argument(argument: str | None, rate: float) -> None:
    """The ratio counts for roots; without one everything is kept."""
    plain = _sampler("traceidratio", argument)
    assert isinstance(plain, TraceIdRatioBased)
    assert plain.rate == rate
    based = _sampler("parentbased_traceidratio", argument)
    assert isinstance(based, ParentBased)
    assert based.get_description() == ParentBased(plain).get_description()


@pytest.mark.parametrize("argument", ["half", "1.1", "-0.1", "nan"])
def test_unusable_ratio(argument: str) -> None:
    """A ratio outside of 0 to 1 is refused under the variable's name."""
    error = _refused({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": argument})
    assert (error.setting, error.value) == ("OTEL_TRACES_SAMPLER_ARG", argument)


def test_sampler_argument_counts_only_with_a_named_sampler() -> None:
    """Without OTEL_TRACES_SAMPLER its argument is not looked at, as the specification says."""
    environ = {"OTEL_TRACES_SAMPLER_ARG": "half"}
    assert _resolve(environ).sampler is _resolve().sampler
    assert _resolve(environ, sampler=ALWAYS_ON).sampler is ALWAYS_ON


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Install a sampler factory under the name ``mine``."""

    def register(factory: object) -> None:
        entry = SimpleNamespace(name="mine", group="opentelemetry_traces_sampler")
        entry.load = lambda: factory

        def entry_points(*, group: str, name: str) -> list[object]:
            return [entry] if (group, name) == (entry.group, entry.name) else []

        monkeypatch.setattr("asynctrace.config.plugins.entry_points", entry_points)

    return register


def test_registered_sampler(register: Callable[[object], None]) -> None:
    """A sampler that a package registers is made with the argument from the variable."""
    register(lambda argument: TraceIdRatioBased(float(argument) / 100))
    sampler = _sampler("mine", "25")
    assert isinstance(sampler, TraceIdRatioBased)
    assert sampler.rate == 0.25


@pytest.mark.parametrize("factory", [lambda _: 1 / 0, lambda _: object()])
def test_registered_sampler_that_cannot_be_made(
    register: Callable[[object], None], factory: object
) -> None:
    """A factory that fails, or makes something else, is a matter of configuration."""
    register(factory)
    error = _refused({"OTEL_TRACES_SAMPLER": "mine"})
    assert error.setting == "OTEL_TRACES_SAMPLER"
    assert "mine" in error.remedy


def test_entry_points_are_looked_up_as_installed() -> None:
    """The stand-in above has the shape of the real thing."""
    entry = EntryPoint("mine", "a:b", "opentelemetry_traces_sampler")
    found = EntryPoints([entry]).select(group="opentelemetry_traces_sampler", name="mine")
    assert list(found) == [entry]


# --- settings that limit each other --------------------------------------------------------------


def test_default_batch_gives_way_to_a_small_queue() -> None:
    """Who asks for a small queue gets small batches."""
    assert _resolve(max_queue_size=10).max_export_batch_size == 10


@pytest.mark.parametrize("source", ["argument", "variable"])
def test_batch_larger_than_the_queue_is_refused(source: str) -> None:
    """Two words of the user that contradict each other are not reconciled by guess."""
    if source == "argument":
        error = _refused(max_queue_size=10, max_export_batch_size=11)
        assert error.setting == "max_export_batch_size"
    else:
        error = _refused({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4096"})
        assert error.setting == "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
    assert "max_queue_size" in error.remedy


def test_client_key_needs_its_certificate() -> None:
    """A key alone proves nothing; with its certificate both are taken."""
    assert _refused(client_key="key.pem").setting == "client_key"
    config = _resolve(
        {"OTEL_EXPORTER_OTLP_CLIENT_KEY": "key.pem"},
        client_certificate="me.pem",
        endpoint="https://localhost",
    )
    assert (config.client_key, config.client_certificate) == ("key.pem", "me.pem")


TLS_FILES = ("certificate", "client_certificate")


@pytest.mark.parametrize("setting", TLS_FILES)
@pytest.mark.parametrize(
    "where", [{}, {"endpoint": "HTTP://collector:4318"}, {"protocol": "grpc"}], ids=str
)
def test_a_certificate_needs_an_endpoint_with_tls(setting: str, where: dict[str, object]) -> None:
    """Beside `http://` it would be read and never used, and the spans travel in the clear."""
    variable = f"OTEL_EXPORTER_OTLP_TRACES_{setting.upper()}"
    for error in (
        _refused(**{setting: "some.pem"}, **where),
        _refused({variable: "some.pem"}, **where),
    ):
        assert error.setting in (setting, variable)
        assert error.value == "some.pem"
        assert "https://" in error.remedy
    secure = {**where, "endpoint": "HTTPS://collector:4318"}
    assert getattr(_resolve(**{setting: "some.pem"}, **secure), setting) == "some.pem"


@pytest.mark.parametrize("setting", TLS_FILES)
def test_a_certificate_for_somebody_else_is_no_mistake(setting: str) -> None:
    """The general variable may be meant for metrics; and what is not sent needs no TLS."""
    assert getattr(_resolve({f"OTEL_EXPORTER_OTLP_{setting.upper()}": "a.pem"}), setting) == "a.pem"
    for unused in ({"exporter": "console"}, {"disabled": True}):
        assert getattr(_resolve(**{setting: "a.pem"}, **unused), setting) == "a.pem"


# --- a session of the user's ---------------------------------------------------------------------

WITH_AUTH = SimpleNamespace(post=print, request=print, auth=("user", "password"))
WITHOUT_AUTH = SimpleNamespace(post=print, request=print, auth=None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"endpoint": "http://us:er@localhost:4318"},
        {"headers": {"Authorization": "Bearer t"}},
        {"credentials": dict},
    ],
)
def test_there_is_room_for_one_authorization(arguments: dict[str, object]) -> None:
    """A session with auth of its own and ours: aiohttp would refuse every request."""
    error = _refused(session=WITH_AUTH, **arguments)
    assert error.setting == "session"
    assert "one Authorization" in error.remedy
    assert _resolve(session=WITHOUT_AUTH, **arguments).session is WITHOUT_AUTH
    assert _resolve(session=WITH_AUTH, headers={"x-tenant": "7"}).session is WITH_AUTH


def test_a_session_is_of_no_use_over_grpc() -> None:
    """The reason is told: the protocol it speaks is another."""
    error = _refused(session=WITHOUT_AUTH, protocol="grpc")
    assert error.setting == "session"
    assert "HTTP/2" in error.remedy


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@a/",
        "http://user:s3/cr@et@a/",
        "http://a/?token=s3cret",
        "user:s3cret@a",
        "htp://user:s3cret@a",
    ],
)
def test_endpoint_credentials_are_not_shown(url: str) -> None:
    """Neither an error nor the repr shows user, password or query."""
    secrets = ("s3", "cr@et", "user")
    for environ, arguments in (({}, {"endpoint": url}), ({TRACES: url}, {}), ({GENERAL: url}, {})):
        try:
            shown = repr(_resolve(environ, **arguments))
        except ConfigError as error:
            shown = f"{error} {error!r} {error.value}"
        assert "***" in shown
        assert not [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize(
    ("environ", "arguments"),
    [
        ({}, {"headers": {"api-key": "s3cret"}}),
        ({}, {"headers": {"api key": "s3cret"}}),
        ({}, {"headers": "api-key=s3cret"}),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "api-key=s3cret"}, {}),
        ({"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "api-key=s3cret,b"}, {}),
        ({"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "api-key=s3cret%0d"}, {}),
    ],
)
def test_header_values_are_not_shown(environ: dict[str, str], arguments: dict[str, object]) -> None:
    """Neither an error nor the repr shows the value of a header."""
    try:
        shown = repr(_resolve(environ, **arguments))
    except ConfigError as error:
        shown = f"{error} {error!r} {error.value}"
    assert "***" in shown
    assert "s3cret" not in shown


def test_repr_shows_what_is_not_default() -> None:
    """The repr is as long as the user's own settings."""
    assert repr(_resolve()) == "Config()"
    assert repr(_resolve(timeout=3, engine="contrib")) == "Config(timeout=3.0, engine='contrib')"


def test_config_cannot_be_changed() -> None:
    """Settings are values: neither the object nor its mappings can be changed."""
    config = _resolve(headers={"a": "1"})
    with pytest.raises(AttributeError):
        config.timeout = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.headers["b"] = "2"  # type: ignore[index]


def test_later_changes_to_an_argument_have_no_effect() -> None:
    """What was handed in is copied."""
    headers, attributes = {"a": "1"}, {"a": "1"}
    config = _resolve(headers=headers, resource_attributes=attributes)
    headers["a"] = attributes["a"] = "2"
    assert config.headers == config.resource_attributes == {"a": "1"}

"""The closed list of names, held against OpenTelemetry's registry, and the pure rules for HTTP."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.semconv import _incubating, attributes
from opentelemetry.semconv.schemas import Schemas

from asynctrace import semconv


def _registered(package: object) -> set[str]:
    """Every attribute name that a package of the registry defines."""
    names: set[str] = set()
    for module in pkgutil.iter_modules(package.__path__):  # type: ignore[attr-defined]
        found = importlib.import_module(f"{package.__name__}.{module.name}")  # type: ignore[attr-defined]
        names.update(value for key, value in vars(found).items() if key.isupper())
    return names


def test_stable_names_are_stable_in_the_registry() -> None:
    """Each name that we call stable is in the stable part."""
    assert semconv.STABLE - _registered(attributes) == set()


def test_development_names_are_in_the_registry_and_not_yet_stable() -> None:
    """So that a name which was promoted is noticed."""
    development = importlib.import_module(f"{_incubating.__name__}.attributes")
    assert semconv.DEVELOPMENT - _registered(development) == set()
    assert semconv.DEVELOPMENT & _registered(attributes) == set()


def test_metrics_are_in_the_registry() -> None:
    """By their names there."""
    stable = importlib.import_module("opentelemetry.semconv.metrics")
    development = importlib.import_module(f"{_incubating.__name__}.metrics")
    assert semconv.METRICS - _registered(stable) - _registered(development) == set()


def test_our_own_names_are_ours_alone() -> None:
    """Under our prefix, and in no other list."""
    assert all(name.startswith("asynctrace.") for name in semconv.OWN)
    assert len(semconv.NAMES) == len(semconv.STABLE) + len(semconv.DEVELOPMENT) + len(semconv.OWN)


def test_every_name_of_the_module_is_listed() -> None:
    """A constant that looks like an attribute's name is one of the list."""
    constants = {
        value
        for key, value in vars(semconv).items()
        if key.isupper() and not key.endswith("_PREFIX")
        if isinstance(value, str) and "." in value and ":" not in value
    }
    constants.update(semconv.HTTP_PHASES.values())
    assert constants == semconv.NAMES | semconv.METRICS


def test_the_schema_is_one_that_the_registry_knows() -> None:
    """The URL names a published edition."""
    assert semconv.SCHEMA_URL in {schema.value for schema in Schemas}


@pytest.mark.parametrize(
    ("variable", "known"),
    [
        (None, semconv.METHODS),
        ("", semconv.METHODS),
        (" , ", semconv.METHODS),
        ("GET", {"GET"}),
        ("GET, get,,BREW ", {"GET", "get", "BREW"}),
    ],
)
def test_known_methods(variable: str | None, known: set[str]) -> None:
    """The variable replaces the list, case-sensitively; an empty one counts as not given."""
    name = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"
    assert semconv.known_methods({} if variable is None else {name: variable}) == known


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("GET", "/users/{id}", "GET /users/{id}"),
        ("GET", None, "GET"),
        ("GET", "", "GET"),
        ("_OTHER", "/pot", "HTTP /pot"),
        ("_OTHER", None, "HTTP"),
    ],
)
def test_span_names(method: str, target: str | None, name: str) -> None:
    """Method and target; the method alone without one; HTTP for an unknown method."""
    assert semconv.span_name(method, target) == name


def test_error_types() -> None:
    """The class in full, builtins without their module."""

    class LocalError(Exception):
        pass

    assert semconv.error_type(ValueError) == "ValueError"
    assert semconv.error_type(LocalError).endswith("test_error_types.<locals>.LocalError")


@pytest.mark.parametrize(
    ("query", "redacted"),
    [
        ("a=1&b=2", "a=1&b=2"),
        ("sig=abc", "sig=REDACTED"),
        ("a=1&sig=abc&b=2", "a=1&sig=REDACTED&b=2"),
        ("sig=", "sig=REDACTED"),
        ("design=1&SIG=2", "design=1&SIG=2"),
        ("Signature=x&AWSAccessKeyId=y", "Signature=REDACTED&AWSAccessKeyId=REDACTED"),
        (
            "X-Amz-Signature=1&X-Amz-Credential=2&X-Amz-Security-Token=3",
            "X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&X-Amz-Security-Token=REDACTED",
        ),
        ("X-Goog-Signature=4", "X-Goog-Signature=REDACTED"),
        ("sig", "sig"),
    ],
)
def test_known_credentials_are_redacted(query: str, redacted: str) -> None:
    """The values that the conventions name, and no others; the keys stay."""
    assert semconv.redact_query(query) == redacted


@given(before=st.text("ab=&%", max_size=9), secret=st.text("xyz%=/", min_size=1, max_size=9))
def test_no_credential_survives(before: str, secret: str) -> None:
    """Wherever in the query it stands."""
    redacted = semconv.redact_query(f"{before}&sig={secret}&c=d")
    assert redacted == f"{before}&sig=REDACTED&c=d"


@pytest.mark.parametrize(
    ("host", "scheme", "server"),
    [
        ("shop.example", "http", ("shop.example", 80)),
        ("shop.example", "https", ("shop.example", 443)),
        ("shop.example:8080", "http", ("shop.example", 8080)),
        ("[::1]:8080", "http", ("::1", 8080)),
        ("[::1]", "https", ("::1", 443)),
        ("shop.example:", "http", ("shop.example:", None)),
        ("shop.example:http", "http", ("shop.example:http", None)),
        ("shop.example:٣", "http", ("shop.example:٣", None)),
        ("shop.example:" + "9" * 5000, "http", ("shop.example:" + "9" * 5000, None)),
        ("", "http", ("", 80)),
    ],
)
def test_servers(host: str, scheme: str, server: tuple[str, int | None]) -> None:
    """Name and port of a Host header; what cannot be told apart is the name."""
    assert semconv.server_of(host, scheme) == server


@given(host=st.text(max_size=30))
def test_no_host_header_raises(host: str) -> None:
    """It is the client's to choose."""
    address, port = semconv.server_of(host, "http")
    assert isinstance(address, str)
    assert port is None or 0 <= port <= 99999


def test_absent_values_make_no_attribute() -> None:
    """Only what a request always has is always there."""
    assert semconv.server_target("GET", None, None, "http", "1.1", ("", None)) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
    }

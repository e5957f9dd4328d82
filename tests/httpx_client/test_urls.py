"""`url.full`, `server.address` and `server.port`: what a URL says, without its secrets."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrace import semconv
from asynctrace.httpx._attributes import attributes as _attributes
from asynctrace.httpx._attributes import parts_of

SECRET = "hunter2secret"


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    ("url", "full", "address", "port"),
    [
        ("http://host", "http://host", "host", 80),
        ("https://host/a?b=c", "https://host/a?b=c", "host", 443),
        ("https://host:444/", "https://host:444/", "host", 444),
        ("http://host:80/", "http://host/", "host", 80),
        ("http://[::1]:8080/a", "http://[::1]:8080/a", "::1", 8080),
        ("http://host/a#part", "http://host/a#part", "host", 80),
        ("http://host/?", "http://host/?", "host", 80),
        ("http://me:pw@host/", "http://REDACTED:REDACTED@host/", "host", 80),
        ("http://me@host/", "http://REDACTED:REDACTED@host/", "host", 80),
        ("http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC", None, 80),
        ("unix://socket/path", "unix://socket/path", "socket", None),
        (
            "https://s3/k?a=1&X-Amz-Signature=2&b=3",
            "https://s3/k?a=1&X-Amz-Signature=REDACTED&b=3",
            "s3",
            443,
        ),
    ],
)
def test_attributes(
    library: Any, url: str, full: str, address: str | None, port: int | None
) -> None:
    """The parts of a URL as the conventions have them."""
    attributes = _attributes(library.Request("GET", url))
    assert attributes["url.full"] == full
    assert attributes["server.address"] == (address or "xn--bcher-kva.example")
    assert attributes.get("server.port") == port
    assert set(attributes) <= semconv.NAMES


_text = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\r\n\t"), max_size=8
)
_parameters = st.sampled_from(
    ["AWSAccessKeyId", "Signature", "X-Amz-Signature", "X-Goog-Signature", "sig"]
)


@given(
    user=_text, before=_text, after=_text, parameter=_parameters, others=st.lists(_text, max_size=3)
)
def test_no_secret_in_any_attribute(
    user: str, before: str, after: str, parameter: str, others: list[str]
) -> None:
    """Whatever stands around them, passwords and known token parameters are in no attribute."""
    password = quote(before + SECRET + after, safe="")
    query = "&".join(
        [*(f"p={quote(value, safe='')}" for value in others), f"{parameter}={password}"]
    )
    url = f"https://{quote(user, safe='')}:{password}@host:8443/path?{query}"
    attributes = _attributes(httpx.Request("GET", url))
    assert SECRET not in repr(attributes)
    assert attributes["server.address"] == "host"
    assert str(attributes["url.full"]).startswith("https://REDACTED:REDACTED@host:8443/path?")


@given(path=_text, query=_text)
def test_a_url_without_secrets_is_kept(path: str, query: str) -> None:
    """Where there is nothing to hide, `url.full` is the URL that httpx requests."""
    url = httpx.URL(f"http://host:81/{quote(path, safe='')}?q={quote(query, safe='')}")
    assert _attributes(httpx.Request("GET", url))["url.full"] == str(url)


@pytest.mark.parametrize("library", [httpx, httpx2])
@given(
    authority=st.sampled_from(["host", "host:81", "me:pw@host", "[::1]:8080", "bücher.example"]),
    path=_text,
    query=st.none() | _text,
    fragment=st.none() | st.just("part"),
)
def test_the_parts_of_a_url(
    library: Any, authority: str, path: str, query: str | None, fragment: str | None
) -> None:
    """What is read from inside of a URL is there, and is what public names tell."""
    text = f"http://{authority}/{quote(path, safe='')}"
    if query is not None:
        text += f"?q={quote(query, safe='')}"
    if fragment is not None:
        text += f"#{fragment}"
    url = library.URL(text)
    inside = url._uri_reference
    # Where nothing is left of a path such as "/.", a request is made for "/".
    assert tuple(inside._replace(path=inside.path or "/")) == parts_of(url)


@pytest.mark.parametrize("query", ["", "?a=1&sig=secret"])
def test_without_the_parts_inside(query: str) -> None:
    """A library that keeps them elsewhere is asked by public names."""
    inside = httpx.URL(f"http://me:pw@host:81/path{query}")

    class Url:
        def __getattr__(self, name: str) -> Any:
            if name == "_uri_reference":
                raise AttributeError(name)
            return getattr(inside, name)

        def __str__(self) -> str:
            return str(inside)

    request = httpx.Request("GET", inside)
    expected = _attributes(request)
    request.url = Url()  # type: ignore[assignment]
    assert _attributes(request) == expected

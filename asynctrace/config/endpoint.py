"""The rules for the collector's URL.

They are those of the OTLP exporter specification: the general endpoint is a base to which the
path of the signal is appended, the signal's own is used as it is, and only gRPC may leave out the
scheme.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

TRACES_PATH: Final = "/v1/traces"
DEFAULTS: Final = {
    "http/protobuf": "http://localhost:4318",
    "http/json": "http://localhost:4318",
    "grpc": "http://localhost:4317",
}

_CREDENTIALS: Final = re.compile(r"^([A-Za-z][\w+.-]*://)?.*@", re.DOTALL)
_QUERY: Final = re.compile(r"\?.*", re.DOTALL)


def final_url(url: str, *, protocol: str, as_is: bool, insecure: bool) -> str:
    """The URL that spans are sent to.

    ``as_is`` marks a URL that names the traces endpoint itself. Raises ValueError with the remedy.
    """
    if protocol == "grpc":
        return _grpc_target(url, insecure=insecure)
    parts = _split(url)
    if as_is:
        return url
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + TRACES_PATH))


def is_for_traces(url: str) -> bool:
    """Whether the path is that of the traces endpoint already."""
    path = re.split(r"[?#]", url, maxsplit=1)[0]
    return path.rstrip("/").endswith(TRACES_PATH)


def masked(url: object) -> object:
    """The URL without what may be secret in it: user, password and query.

    It errs on the side of hiding, for it is made for URLs that cannot be parsed as well.
    """
    if not isinstance(url, str):
        return url
    return _QUERY.sub("?***", _CREDENTIALS.sub(r"\1***@", url))


def _grpc_target(url: str, *, insecure: bool) -> str:
    if "://" not in url:
        url = f"{'http' if insecure else 'https'}://{url}"
    parts = _split(url)
    if parts.path.strip("/") or parts.query:
        raise ValueError("gRPC takes no path; leave it out, or set the protocol to http/protobuf")
    return urlunsplit(parts._replace(path=""))


def _split(url: str) -> SplitResult:
    if "://" not in url:
        raise ValueError(f"begin it with http:// or https://, as in {DEFAULTS['http/protobuf']}")
    if re.search(r"[\s\x00-\x1f]", url):
        raise ValueError("percent-encode the blanks in it")
    try:
        parts = urlsplit(url)
        # No resolver takes a name that cannot be encoded.
        reachable = bool(parts.hostname and parts.hostname.encode("idna")) and parts.port != 0
    except ValueError:  # a port out of range, unbalanced brackets, a label too long
        reachable = False
    if not reachable:
        raise ValueError("give host and port, as in http://localhost:4318")
    if parts.scheme.lower() not in ("http", "https"):
        raise ValueError("the scheme is http or https")
    return parts

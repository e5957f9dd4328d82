"""What is sent: the headers and the message of a call."""

from __future__ import annotations

import base64
import gzip
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from asynctrace.config import checks

Headers = list[tuple[bytes, bytes]]

PATH: Final = b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_COMPRESSORS: Final = {
    "gzip": lambda body: gzip.compress(body, compresslevel=6, mtime=0),
    "deflate": zlib.compress,
}
_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_OURS: Final = frozenset(
    {"connection", "content-type", "host", "keep-alive", "proxy-connection", "te"}
    | {"transfer-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where spans go and how, over gRPC."""

    url: str
    """Scheme, host and port; 80 or 443 where the port is left out."""
    headers: Mapping[str, str]
    """The metadata of each call."""
    compression: str = "none"
    """`none`, `gzip` or `deflate`."""
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    @property
    def secure(self) -> bool:
        return self._parts.scheme.lower() == "https"

    @property
    def host(self) -> str:
        return self._parts.hostname or ""

    @property
    def port(self) -> int:
        return self._parts.port or (443 if self.secure else 80)

    @property
    def authority(self) -> str:
        """Host and port as they stand in the URL, without credentials."""
        return self._parts.netloc.rpartition("@")[2]

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    def call_headers(self, credentials: Mapping[str, str] = _NONE) -> Headers:
        """The headers of a call, in the order that gRPC prescribes; `credentials` win.

        Raises:
            ValueError: a header cannot be sent; the text says which and why.
        """
        own = {**self._basic_auth(), "user-agent": "asynctrace", **self.headers, **credentials}
        encoding = [] if self.compression == "none" else [self.compression]
        return [
            (b":method", b"POST"),
            (b":scheme", b"https" if self.secure else b"http"),
            (b":path", PATH),
            (b":authority", self.authority.encode("idna" if not self.host.isascii() else "ascii")),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *((b"grpc-encoding", name.encode()) for name in encoding),
            (b"grpc-accept-encoding", b"identity,gzip,deflate"),
            *(_metadata(name.lower(), value) for name, value in own.items()),
        ]

    def check_headers(self, given: object) -> Mapping[str, str]:
        """What a function of the user's gave, as headers of a call.

        Raises:
            ValueError: it cannot be sent; the text says why.
        """
        checked = checks.headers(given)
        self.call_headers(checked)
        return checked

    def _basic_auth(self) -> dict[str, str]:
        """User and password of the URL, as every HTTP client sends them."""
        user, password = self._parts.username, self._parts.password
        if user is None:
            return {}
        plain = f"{unquote(user)}:{unquote(password or '')}"
        return {"authorization": f"Basic {base64.b64encode(plain.encode()).decode()}"}

    @property
    def compresses(self) -> bool:
        """Whether `message` does enough to be kept off the event loop."""
        return self.compression != "none"

    def message(self, body: bytes) -> bytes:
        """A request with its prefix: a flag for compression and the length in four bytes."""
        if self.compresses:
            body = _COMPRESSORS[self.compression](body)
        return self.compresses.to_bytes() + len(body).to_bytes(4, "big") + body

    def __repr__(self) -> str:
        return f"<Endpoint {self._parts.scheme}://{self.authority}>"


def timeout(seconds: float) -> tuple[bytes, bytes]:
    """The header that tells the server how long we wait: at most eight digits, and a unit."""
    milliseconds = max(1, int(seconds * 1000))
    value = f"{milliseconds}m" if milliseconds < 10**8 else f"{min(int(seconds), 10**8 - 1)}S"
    return b"grpc-timeout", value.encode()


def _metadata(name: str, value: str) -> tuple[bytes, bytes]:
    if not _NAME.fullmatch(name) or name.startswith("grpc-") or name in _OURS:
        raise ValueError(f"gRPC does not allow a header named {name!r}")
    if name.endswith("-bin"):
        return name.encode(), base64.b64encode(value.encode()).rstrip(b"=")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"over gRPC the header {name!r} has to be ASCII; {name}-bin may be any")
    return name.encode(), value.strip().encode()

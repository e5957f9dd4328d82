"""Which requests of a client are meant: by host, by URL, or by whatever a function says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from typing import Any, Final, NamedTuple

from asynctrace.errors import ConfigError

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_ADDRESS: Final = re.compile(r"\[(?=[0-9A-Fa-f]*:)")


class Place(NamedTuple):
    """Where a request goes: its URL in parts, without credentials and query."""

    scheme: str
    host: str
    """As it goes over the wire."""
    port: int | None
    """None where it is the scheme's own."""
    path: str


def matcher(
    option: str, targets: object, place_of: Callable[[Any], Place]
) -> Callable[[Any], bool]:
    """What answers whether a request is one of `targets`; `place_of` tells where it goes.

    Targets are a function of the request; or a list of hosts (`"api.internal"`, `"*.internal"`,
    `"db:8443"`), of URLs up to the query (`"https://api/v2/*"`), and of compiled patterns that are
    searched for in such a URL.

    Raises ConfigError for anything else.
    """
    if callable(targets):
        return targets
    if isinstance(targets, str) or not isinstance(targets, Iterable):
        raise ConfigError(option, targets, "a list of hosts, or a function, is needed")
    listed = _Listed(option, targets)
    return lambda request: listed.has(place_of(request))


class _Listed:
    """The hosts and URLs of a list."""

    __slots__ = ("_hosts", "_patterns", "_urls")

    def __init__(self, option: str, targets: Iterable[object]) -> None:
        hosts, urls, patterns = [], [], []
        for target in targets:
            if isinstance(target, re.Pattern):
                patterns.append(target)
            elif not isinstance(target, str) or not target:
                raise ConfigError(option, target, "a host, a URL or a compiled pattern is needed")
            elif "/" in target:
                urls.append(translate(_literal(target)))
            else:
                hosts.append(translate(_literal(target.lower())))
        self._hosts = re.compile("|".join(hosts) or "(?!)")
        self._urls = re.compile("|".join(urls) or "(?!)")
        self._patterns = tuple(patterns)

    def has(self, place: Place) -> bool:
        scheme, host, port, path = place
        name = f"[{host}]" if ":" in host else host
        numbered = f"{name}:{_PORTS.get(scheme) if port is None else port}"
        if any(map(self._hosts.match, (host, name, numbered))):
            return True
        url = f"{scheme}://{name if port is None else numbered}{path}"
        if self._urls.match(url) or any(pattern.search(url) for pattern in self._patterns):
            return True
        return port is None and bool(self._urls.match(f"{scheme}://{numbered}{path}"))


def _literal(target: str) -> str:
    """A target whose bracket around an IPv6 address is that, and no class of a pattern's."""
    return _ADDRESS.sub("[[]", target)

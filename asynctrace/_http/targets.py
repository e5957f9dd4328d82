"""Which requests of a client are meant: by host, by URL, or by whatever a function says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from typing import Any, NamedTuple

from asynctrace.errors import ConfigError


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
                urls.append(translate(target))
            else:
                hosts.append(translate(target.lower()))
        self._hosts = re.compile("|".join(hosts) or "(?!)")
        self._urls = re.compile("|".join(urls) or "(?!)")
        self._patterns = tuple(patterns)

    def has(self, place: Place) -> bool:
        scheme, host, port, path = place
        authority = host if port is None else f"{host}:{port}"
        if self._hosts.match(host) or self._hosts.match(authority):
            return True
        url = f"{scheme}://{authority}{path}"
        return bool(self._urls.match(url)) or any(p.search(url) for p in self._patterns)

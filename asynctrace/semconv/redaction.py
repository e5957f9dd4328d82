"""URLs without what grants access: credentials, and the values of secret parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_plus

__all__ = ["REDACTED_CREDENTIALS", "parameters", "redact_query", "redact_url"]

# The keys of signed URLs whose values grant access, as the conventions list them; keys are matched
# case-sensitively and kept. The first two are of the list's previous edition.
_SECRET_PARAMETER = re.compile(
    "((?:^|&)(?:AWSAccessKeyId|Signature|X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token"
    "|X-Goog-Signature|sig)=)[^&]*"
)


def redact_query(query: str, also: frozenset[str] = frozenset()) -> str:
    """The query with the values of known credentials, and of the parameters `also`, replaced by
    `REDACTED`.
    """
    if _SECRET_PARAMETER.search(query) is not None:  # a substitution costs ten times as much
        query = _SECRET_PARAMETER.sub(r"\1REDACTED", query)
    if also:
        pairs = (pair.partition("=") for pair in query.split("&"))
        query = "&".join(
            f"{key}=REDACTED" if equals and unquote_plus(key) in also else f"{key}{equals}{value}"
            for key, equals, value in pairs
        )
    return query


REDACTED_CREDENTIALS: Final = "REDACTED:REDACTED"
_AUTHORITY = re.compile("[^/?#]*")


def redact_url(url: str, secret: re.Pattern[str] | None = None) -> str:
    """`url.full` of a URL: without credentials, and without the values of secret parameters.

    `secret` finds further parameters than those of the conventions, see :func:`parameters`.
    """
    if "@" in url:
        scheme, mark, rest = url.partition("://")
        end = _AUTHORITY.match(rest).end()  # type: ignore[union-attr]  # matches always
        _, at, host = rest[:end].rpartition("@")
        if at:
            url = f"{scheme}{mark}{REDACTED_CREDENTIALS}@{host}{rest[end:]}"
    if "?" in url:
        before, hash_mark, fragment = url.partition("#")
        path, mark, query = before.partition("?")
        query = redact_query(query)
        if secret is not None:
            query = secret.sub(r"\1REDACTED", query)
        url = f"{path}{mark}{query}{hash_mark}{fragment}"
    return url


def parameters(names: Iterable[str]) -> re.Pattern[str] | None:
    """What finds the values of query parameters of these names, whatever their case."""
    listed = "|".join(map(re.escape, names))
    return re.compile(f"((?:^|&)(?:{listed})=)[^&]*", re.IGNORECASE) if listed else None

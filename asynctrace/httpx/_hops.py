"""Which attempt of a request this is, and what else the request says about itself.

The caller says it by the request's extensions, for a retry around the call or for a name::

    client.get(url, extensions={"asynctrace": {"resend_count": 2, "url_template": "/users/{id}"}})

Otherwise it is seen: httpx hands a request's extensions on to the request that follows a redirect,
and an authentication flow or a retrying transport sends the same object again. What was answered
with success and is sent again, by a program that keeps a request for that purpose, begins anew.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from asynctrace import semconv

if TYPE_CHECKING:
    import httpx

    from asynctrace.httpx._attributes import Build

KEY: Final = "asynctrace"
"""Of `request.extensions`."""

IN_VAIN: Final = "_asynctrace_in_vain"
"""Of `request.__dict__`: how often the request was sent and not answered with success."""


class _Redirected(dict[str, Any]):
    """What the extensions of a redirected request hold, for those of the next one to inherit."""

    def __init__(self, resend_count: int, request: httpx.Request) -> None:
        super().__init__(resend_count=resend_count)
        self.request = weakref.ref(request)
        self.before = request.extensions


def shape(name: str, build: Build, request: httpx.Request) -> tuple[str, Build]:
    """The name of a span, and what builds its attributes, when the request says more of itself."""
    said = _said(request)
    more: semconv.Attributes = {}
    count = _count(said, request)
    if count:
        more[semconv.HTTP_REQUEST_RESEND_COUNT] = count
    template = said.get("url_template")
    if isinstance(template, str) and template:
        more[semconv.URL_TEMPLATE] = template
        name = f"{name} {template}"
    return name, lambda request: {**build(request), **more}


def answered(request: httpx.Request, response: httpx.Response) -> None:
    """Note how an attempt went, when that was not plainly with success at the first time."""
    if response.status_code < 300:
        request.__dict__.pop(IN_VAIN, None)
        return
    if response.has_redirect_location:
        mark = _Redirected(_count(_said(request), request) + 1, request)
        request.extensions = {**mark.before, KEY: mark}
    unanswered(request)


def unanswered(request: httpx.Request) -> None:
    """Note that an attempt was in vain."""
    request.__dict__[IN_VAIN] = request.__dict__.get(IN_VAIN, 0) + 1


def _said(request: httpx.Request) -> Mapping[str, Any]:
    said = request.extensions.get(KEY)
    if isinstance(said, _Redirected):
        redirected = said.request()
        if redirected is request:  # sent again instead of following the redirect
            said = said.before.get(KEY)
        if redirected is not None and isinstance(redirected.extensions.get(KEY), _Redirected):
            # The caller finds its request as it was.
            redirected.extensions = redirected.extensions[KEY].before
    return said if isinstance(said, Mapping) else {}


def _count(said: Mapping[str, Any], request: httpx.Request) -> int:
    count = said.get("resend_count")
    vain: int = request.__dict__.get(IN_VAIN, 0)
    return vain + (count if type(count) is int and count > 0 else 0)

"""Every client of the process: those that exist, those to come, and the top-level functions.

Around `send` of the libraries' client classes, which all of a client's requests come down to. The
first call of each client wraps its transports, as `instrument` does; so there is no list of clients
to be kept, and whether one was made before or after makes no difference. A library that is not
imported yet is met at its import.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from asynctrace._http.client import Shaping
from asynctrace.errors import LifecycleError
from asynctrace.httpx import _client, _contrib, _logical
from asynctrace.httpx._imports import ImportListener
from asynctrace.httpx._library import LIBRARIES
from asynctrace.httpx._shaping import place_of

if TYPE_CHECKING:
    from typing import Unpack

    from asynctrace.httpx._client import Engine
    from asynctrace.httpx._shaping import TracingOptions
    from asynctrace.tracing import Tracing

_logger = logging.getLogger("asynctrace")

_PUT_BY: Final = "instrument_all"


def instrument_all(
    *,
    tracing: Tracing | None = None,
    engine: Engine | None = None,
    logical_span: bool = False,
    **options: Unpack[TracingOptions],
) -> None:
    """Trace every client of httpx and httpx2 in this process, whenever it was or will be made.

    That includes subclasses, `httpx.get` and its like, and a library that is imported later; none
    is imported by this. A client that `instrument` traces keeps the options it has. Doing it twice
    with the same options is doing it once. The options are those of :func:`instrument`.

    Raises:
        ConfigError: an option cannot be used.
        LifecycleError: it has been done already, with other options.
    """
    global _active
    contrib = _client.use_contrib(engine, tracing, logical_span=logical_span, options=options)
    Shaping.of(options, {}, place_of)
    wanted = _Everywhere(tracing, contrib, logical_span, dict(options))
    if _active is not None:
        if _active != wanted:
            raise LifecycleError(
                "all clients are traced already, with other options",
                hint="call asynctrace.httpx.uninstrument_all() first",
            )
        return
    _active = wanted
    sys.meta_path.insert(0, wanted.listener)
    try:
        for name in LIBRARIES:
            if name in sys.modules:
                wanted.patch(sys.modules[name])
    except BaseException:  # whatever it was, interrupted or refused: all clients or none
        uninstrument_all()
        raise


def uninstrument_all() -> None:
    """Take back what :func:`instrument_all` did: classes and clients are what they were before.

    What `instrument` traces stays traced. Requests under way are traced to their end.
    """
    global _active
    active, _active = _active, None
    if active is None:
        return
    sys.meta_path.remove(active.listener)
    active.restore()


@dataclass(slots=True)
class _Everywhere:
    """The options, and what was changed because of them."""

    tracing: Tracing | None
    contrib: bool
    logical_span: bool
    options: Mapping[str, Any]
    listener: ImportListener = field(init=False, compare=False)
    _patched: dict[type, tuple[Callable[..., Any], Callable[..., Any]]] = field(
        default_factory=dict, compare=False
    )
    # By their ids: what a client is equal to, and whether it has a hash, is its class's to say.
    _clients: WeakValueDictionary[int, Any] = field(
        default_factory=WeakValueDictionary, compare=False
    )

    def __post_init__(self) -> None:
        self.listener = ImportListener(self._patch_later)

    def _patch_later(self, library: ModuleType) -> None:
        """:meth:`patch` in the import of a library, which never fails because of it."""
        try:
            self.patch(library)
        except Exception as error:
            _logger.warning("the clients of %s are not traced: %r", library.__name__, error)

    def patch(self, library: ModuleType) -> None:
        """Trace the clients of a library that has been imported."""
        if self.contrib:
            _contrib.instrument_library(library, self.tracing)
            return
        for kind, is_async in ((library.AsyncClient, True), (library.Client, False)):
            if kind not in self._patched:  # as it is of a library under two names
                original = kind.send
                ours = self._tracing_send(original, is_async=is_async)
                self._patched[kind] = original, ours
                kind.send = ours

    def restore(self) -> None:
        for kind, (original, ours) in self._patched.items():
            if vars(kind).get("send") is ours:
                kind.send = original  # type: ignore[attr-defined]
        for reference in self._clients.valuerefs():
            if (client := reference()) is not None:
                _client.remove(client, _PUT_BY)
        if self.contrib:
            _contrib.uninstrument_libraries()

    def _tracing_send(self, send: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
        inner = send
        if self.logical_span:
            inner = _logical_send(send, self.tracing, self.options, is_async)

        @wraps(send)
        def traced(client: Any, *args: Any, **options: Any) -> Any:
            self._meet(client)
            return inner(client, *args, **options)

        @wraps(send)
        async def traced_async(client: Any, *args: Any, **options: Any) -> Any:
            self._meet(client)
            return await inner(client, *args, **options)

        return traced_async if is_async else traced

    def _meet(self, client: Any) -> None:
        """Trace a client from its first call on."""
        # A `send` of ours may be in somebody's hands still after it was taken back.
        if self._clients.get(id(client)) is client or _active is not self:
            return
        try:
            kind = _client.transport_for(client)
            _client.install(client, kind, self.tracing, self.options, _PUT_BY)
        except Exception as error:  # a client unlike all others; said once for each
            _logger.warning("%r is not traced: %s", client, error)
        # Not before: another thread that is met here meanwhile would send past us.
        self._clients[id(client)] = client


def _logical_send(
    send: Callable[..., Any],
    tracing: Tracing | None,
    options: Mapping[str, Any],
    is_async: bool,
) -> Callable[..., Any]:
    """A class's `send` in a logical span, but for clients that have one of their own."""
    skip = _logical.skip_of(options)

    @wraps(send)
    def bound(client: Any, *args: Any, **options: Any) -> Any:
        if _logical.is_wrapped(client):
            return send(client, *args, **options)
        around = _logical.logical(send.__get__(client), tracing, skip, is_async=is_async)
        return around(*args, **options)

    return bound


_active: _Everywhere | None = None

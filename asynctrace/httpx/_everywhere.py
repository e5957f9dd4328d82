"""Every client of the process: those that exist, those to come, and the top-level functions.

Around `send` of the libraries' client classes, which all of a client's requests come down to. The
first call of each client wraps its transports, as `instrument` does; so there is no list of clients
to be kept, and whether one was made before or after makes no difference. A library that is not
imported yet is met at its import.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from asynctrace._http.client import Shaping
from asynctrace.errors import LifecycleError
from asynctrace.httpx import _client, _contrib, _logical
from asynctrace.httpx._library import LIBRARIES
from asynctrace.httpx._shaping import place_of

if TYPE_CHECKING:
    from typing import Unpack

    from asynctrace.httpx._client import Engine
    from asynctrace.httpx._shaping import TracingOptions
    from asynctrace.tracing import Tracing

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
    sys.meta_path.insert(0, wanted.finder)
    try:
        for name in LIBRARIES:
            if name in sys.modules:
                wanted.patch(sys.modules[name])
    except BaseException:
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
    sys.meta_path.remove(active.finder)
    active.restore()


@dataclass(slots=True)
class _Everywhere:
    """The options, and what was changed because of them."""

    tracing: Tracing | None
    contrib: bool
    logical_span: bool
    options: Mapping[str, Any]
    finder: MetaPathFinder = field(init=False, compare=False)
    _patched: dict[type, tuple[Callable[..., Any], Callable[..., Any]]] = field(
        default_factory=dict, compare=False
    )
    _clients: WeakSet[Any] = field(default_factory=WeakSet, compare=False)

    def __post_init__(self) -> None:
        self.finder = _Finder(self.patch)

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
        for client in list(self._clients):
            _client.remove(client, _PUT_BY)
        if self.contrib:
            _contrib.uninstrument_libraries()

    def _tracing_send(self, send: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
        inner = _logical_send(send, self.tracing, is_async) if self.logical_span else send

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
        if client not in self._clients and _active is self:
            self._clients.add(client)
            kind = _client.transport_for(client)
            _client.install(client, kind, self.tracing, self.options, _PUT_BY)


def _logical_send(
    send: Callable[..., Any], tracing: Tracing | None, is_async: bool
) -> Callable[..., Any]:
    """A class's `send` in a logical span, but for clients that have one of their own."""

    @wraps(send)
    def bound(client: Any, *args: Any, **options: Any) -> Any:
        if _logical.is_wrapped(client):
            return send(client, *args, **options)
        return _logical.logical(send.__get__(client), tracing, is_async=is_async)(*args, **options)

    return bound


_active: _Everywhere | None = None


class _Finder(MetaPathFinder):
    """Notices the import of one of the libraries. Finds nothing itself."""

    def __init__(self, imported: Callable[[ModuleType], None]) -> None:
        self._imported = imported
        self._is_asking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in LIBRARIES or self._is_asking:
            return None
        self._is_asking = True  # the import lock of this module is held: nobody else gets here
        try:
            spec = find_spec(fullname)
        finally:
            self._is_asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._imported)
        return spec


class _Loader(Loader):
    """Loads a module as its own loader does, and tells when it is there."""

    def __init__(self, loader: Loader, imported: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._imported = imported

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # From here on the module knows nothing of us.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imported(module)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            return getattr(self._loader, name)

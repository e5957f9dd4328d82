"""httpx and httpx2: to which of the two an object belongs, and classes of ours that fit into it.

The libraries are twins with unrelated classes, and a client accepts only streams of its own
library's class. So what we put into a client is derived, on first use, from our class and from the
library's. The library is found by the module of the classes that are there, because
`httpx2.alias_httpx()` makes `import httpx` return httpx2, and because neither may be imported on
behalf of somebody who uses only the other, or none.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Generic, TypeVar, cast

LIBRARIES = ("httpx", "httpx2")

T = TypeVar("T")

# Not `functools.cache`, for which type checkers hold a class to be unhashable.
_fitted: dict[tuple[type, ModuleType, str], type] = {}
_in_memory: set[type] = set()


def library_of(kind: type) -> ModuleType | None:
    """The library that a class comes from, or derives from; None when it is neither of the two."""
    for base in kind.__mro__:
        name = base.__module__.partition(".")[0]
        if name in LIBRARIES:
            return sys.modules.get(name)
    return None


def imported_library() -> ModuleType | None:
    """The library that this process uses; httpx when it uses both, None when it uses neither."""
    return next((sys.modules[name] for name in LIBRARIES if name in sys.modules), None)


def fit(ours: type[T], library: ModuleType, base: str) -> type[T]:
    """`ours` as a genuine subclass of the library's public class of the name `base`."""
    key = ours, library, base
    kind = _fitted.get(key)
    if kind is None:
        bases = (ours, getattr(library, base))
        namespace = {"__module__": ours.__module__, "__doc__": ours.__doc__}
        kind = _fitted.setdefault(key, type(ours.__name__, bases, namespace))
    return cast("type[T]", kind)


class StreamClasses(dict[type, "type[T] | None"], Generic[T]):
    """By the class of a stream: our class as it fits around such a stream.

    None when there is nothing to follow, as the stream holds its bytes in memory; and when it is
    not what a client of either library takes for its public class of the name `base`.

    A dict, as it is asked for every response: what it knows already costs no call.
    """

    def __init__(self, ours: type[T], base: str) -> None:
        super().__init__()
        self._ours = ours
        self._base = base

    def __missing__(self, stream: type) -> type[T] | None:
        kind = self[stream] = self._fit(stream)
        return kind

    def _fit(self, stream: type) -> type[T] | None:
        library = library_of(stream)
        if library is None or not issubclass(stream, getattr(library, self._base)):
            return None
        if stream is library.ByteStream:
            _in_memory.add(stream)
            return None
        return fit(self._ours, library, self._base)


def is_in_memory(stream: object) -> bool:
    """Whether a stream, one whose class :class:`StreamClasses` knows, has all its bytes."""
    return type(stream) in _in_memory

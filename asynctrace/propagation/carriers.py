"""Reading and writing headers in whatever carries them, known by behaviour and never by type.

A carrier is a mapping (``dict``, multidicts, ``httpx.Headers``, ...) or a list of pairs (ASGI,
Kafka and the like). Names are compared without regard to case; names and values may be ``str`` or
``bytes``. No library whose objects are understood here is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, TypeAlias

from opentelemetry.propagators.textmap import Getter, Setter

__all__ = ["CARRIER_GETTER", "CARRIER_SETTER", "Carrier", "read", "remove", "texts", "write"]

Text: TypeAlias = "str | bytes"
_TEXT = (str, bytes)
# Any: the keys and values of other people's mappings are checked where they are read.
Carrier: TypeAlias = "Mapping[Any, Any] | Collection[tuple[Text, Text]]"


def read(carrier: Carrier, name: str) -> list[str]:
    """All values of the header `name` (given in lower case), in the order of the carrier."""
    return [text for _, value in _entries(carrier, name) for text in texts(value)]


def names(carrier: Carrier) -> list[str]:
    """The names of all headers, as the carrier spells them."""
    return [text for key, _ in _pairs(carrier) for text in texts(key)]


def write(carrier: Carrier, name: str, value: str) -> None:
    """Set the header `name` (in lower case), in place of every header of that name.

    `str` or `bytes` is written as the carrier's first entry has it. An empty list does not tell; it
    gets a pair of ``str`` and ``bytes``, which is what Kafka's clients take. An empty mapping gets
    ``str``.

    Raises TypeError for what cannot be changed.
    """
    if isinstance(carrier, list):
        _write_list(carrier, name, value)
    elif _is_mutable_mapping(carrier):
        _write_mapping(carrier, name, value)
    else:
        raise TypeError(f"cannot set a header in a {type(carrier).__name__}; use a dict or a list")


def remove(carrier: Carrier, name: str) -> None:
    """Delete every header `name` (given in lower case), if there is one."""
    if isinstance(carrier, list):
        carrier[:] = [pair for pair in carrier if not _is(pair[0], name)]
    elif _is_mutable_mapping(carrier):
        _delete(carrier, name)


def texts(values: object) -> list[str]:
    """Header values as text, whatever form they come in: one or several, ``str`` or ``bytes``.

    What is neither becomes an empty text: a header that is there and cannot be valid. Silently
    leaving it out could make one good header out of two.
    """
    if values is None:
        return []
    if isinstance(values, (list, tuple)):
        return [_text(value) for value in values]
    return [_text(values)]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    # Latin-1 cannot fail, and leaves it to the grammars to refuse what is not ASCII.
    return value.decode("latin-1") if isinstance(value, bytes) else ""


def _is(key: object, name: str) -> bool:
    return isinstance(key, _TEXT) and _text(key).lower() == name


def _pairs(carrier: Any) -> Any:
    """Every entry of a carrier, repeated headers one by one."""
    if carrier is None:  # some clients' messages have it in place of empty headers
        return ()
    # httpx.Headers joins repeated headers in items(), which would hide that there were two.
    items = getattr(carrier, "multi_items", None) or getattr(carrier, "items", None)
    return items() if items is not None else carrier


def _entries(carrier: Any, name: str) -> list[tuple[Text, object]]:
    size = len(name)
    return [
        (key, value)
        for key, value in _pairs(carrier)
        # Most names differ in length, which spares looking closer.
        if isinstance(key, _TEXT) and len(key) == size and _is(key, name)
    ]


def _is_mutable_mapping(carrier: object) -> bool:
    # Multidicts are registered as MutableMapping; some header classes only behave like one.
    # dict stands first because it is the usual one and the check of an ABC is slow.
    return isinstance(carrier, (dict, MutableMapping)) or all(
        hasattr(carrier, method) for method in ("__setitem__", "__delitem__", "items")
    )


def _delete(carrier: Any, name: str) -> None:
    for key in {key for key, _ in _entries(carrier, name)}:
        try:
            del carrier[key]
        except KeyError:  # went with another spelling: the mapping itself disregards case
            pass


def _write_mapping(carrier: Any, name: str, value: str) -> None:
    key_type, value_type = _style(carrier, (str, str))
    _delete(carrier, name)
    carrier[key_type(name)] = value_type(value)


def _write_list(carrier: list[Any], name: str, value: str) -> None:
    key_type, value_type = _style(carrier, (str, _bytes))
    pair_type = list if carrier and isinstance(carrier[0], list) else tuple
    pair = pair_type((key_type(name), value_type(value)))
    present = [index for index, (key, _) in enumerate(carrier) if _is(key, name)]
    if not present:
        carrier.append(pair)
        return
    carrier[present[0]] = pair
    for index in reversed(present[1:]):
        del carrier[index]


_Spelling: TypeAlias = "Callable[[str], Text]"


def _style(carrier: Carrier, empty: tuple[_Spelling, _Spelling]) -> tuple[_Spelling, _Spelling]:
    """How the first entry of the carrier spells name and value; `empty` if there is no entry."""
    for key, value in _pairs(carrier):
        return _like(key), _like(value)
    return empty


def _like(sample: object) -> _Spelling:
    return _bytes if isinstance(sample, bytes) else str


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


class _CarrierGetter(Getter[Carrier]):
    """The carriers of this module for the propagators of OpenTelemetry."""

    def get(self, carrier: Carrier, key: str) -> list[str] | None:
        return read(carrier, key.lower()) or None

    def keys(self, carrier: Carrier) -> list[str]:
        return names(carrier)


class _CarrierSetter(Setter[Carrier]):
    def set(self, carrier: Carrier, key: str, value: str) -> None:
        write(carrier, key.lower(), value)


CARRIER_GETTER: Getter[Any] = _CarrierGetter()
CARRIER_SETTER: Setter[Any] = _CarrierSetter()

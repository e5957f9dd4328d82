"""From a batch to the body of a request, off the event loop where it takes long."""

from __future__ import annotations

from collections.abc import Callable

from asynctrace import _threads

from .contracts import Batch

JOINED_ON_LOOP = 2**19
"""Bytes of spans that are joined on the loop, in less than half a millisecond. A thread that joins
more than twice that does so without the interpreter lock, and does not keep the loop either."""


async def request_body(batch: Batch, encode: Callable[[bytes], bytes], *, costly: bool) -> bytes:
    """`encode` of the batch as OTLP, in a daemon thread if that is `costly` or the batch is large.

    Raises:
        RuntimeError: it is costly, and no thread can be started.
    """

    def make() -> bytes:
        return encode(batch.to_otlp())

    if not costly and batch.size <= JOINED_ON_LOOP:
        return make()
    try:
        return await _threads.call(make)
    except RuntimeError:
        if costly:
            raise
        return make()  # a stall of some milliseconds, and the spans arrive

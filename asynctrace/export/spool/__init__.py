"""Spans that cannot be delivered wait on disk, in the directory that `spool=` names.

::

    format.py     the bytes of a segment file, tolerant to damage; pure
    rules.py      names, sizes, what is deleted, sent and kept; pure
    locks.py      the lock that says whose a segment is
    segments.py   one segment file: written, claimed, acknowledged, deleted; blocking
    store.py      the directory, as one exporter uses it; blocking
    spool.py      the same without blocking, with figures and log lines
    overflow.py   from a full queue to disk
    stored.py     a record as a batch, for exporters; readable.py as spans of the SDK
    splitting.py  a request that is too large, in two; pure
    replay.py     from disk to the collector, once it is back
    pipeline.py   a pipeline that has all this
    sending.py    a whole directory sent once, by hand

A process appends to segments of its own, and holds a lock on the one that it writes. A segment that
nobody has locked is anybody's to send: of this process, of one that ended, of one that was killed.
A record is one whole OTLP request, so it is sent as it is, with the resource of its writer; it is
acknowledged when the collector has it, and a segment is deleted when all of its records are.
Whoever is killed in between has sent a record that is sent again: at least once.

What was written survives the end of the process in any form. It is not synchronized with the
medium: a machine that loses power may lose what came last, and the checksums tell.
"""

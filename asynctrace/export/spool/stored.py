"""A batch that comes from disk: its request is complete, and nothing is encoded anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from asynctrace.export.contracts import Batch
from asynctrace.otlp.decode import decode_request

from .format import Record
from .readable import readable_span


@dataclass(frozen=True, slots=True)
class StoredBatch(Batch):
    """What an exporter is given of a record; the resource is the one that its writer had."""

    record: Record

    @classmethod
    def of(cls, record: Record) -> StoredBatch:
        return cls((), Resource.get_empty(), record)

    def __len__(self) -> int:
        return self.record.spans

    @property
    def size(self) -> int:
        """Bytes of the whole request."""
        return len(self.record.body)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The span objects, made from the bytes.

        Raises:
            DecodeError: the record holds no request.
        """
        return [readable_span(span) for span in decode_request(self.record.body)]

    def to_otlp(self) -> bytes:
        return self.record.body

    def __repr__(self) -> str:
        return f"<StoredBatch of {len(self)} spans>"

"""The fields of the current span in the records of loguru.

pip install loguru
python examples/log_with_loguru.py
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from loguru import logger

import asynctrace

if TYPE_CHECKING:
    from loguru import Record

FORMAT = "{time} {level} trace_id={extra[trace_id]} span_id={extra[span_id]} {message}"


def add_trace(record: Record) -> None:
    """A patcher. It runs where the record is made, before any sink or queue."""
    record["extra"].update(asynctrace.logging.fields())


def configure() -> None:
    logger.configure(patcher=add_trace, handlers=[{"sink": sys.stdout, "format": FORMAT}])


async def main() -> None:
    async with asynctrace.init(service_name="shop"):
        with asynctrace.span("order"):
            logger.info("ordered")


if __name__ == "__main__":
    configure()
    asyncio.run(main())

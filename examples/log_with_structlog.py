"""The fields of the current span in the events of structlog.

pip install structlog
python examples/log_with_structlog.py
"""

from __future__ import annotations

import asyncio

import structlog
from structlog.typing import EventDict, WrappedLogger

import asynctrace


def add_trace(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A processor; put it ahead of the renderer. It runs where the event is logged."""
    event.update(asynctrace.logging.fields())
    return event


def configure() -> None:
    structlog.configure(processors=[add_trace, structlog.processors.JSONRenderer()])


async def main() -> None:
    async with asynctrace.init(service_name="shop"):
        with asynctrace.span("order"):
            structlog.get_logger().info("ordered", item="book")


if __name__ == "__main__":
    configure()
    asyncio.run(main())

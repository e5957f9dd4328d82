"""Asyncio workers: running one, and handing work from task to task and from process to process.

=========  =================================================================================
running    run(): asyncio.run with tracing, signals, and an orderly end; signals beside it
queue      TracedQueue: items that remember their producer's trace
messages   process() and publish() for brokers
=========  =================================================================================
"""

from __future__ import annotations

from asynctrace.propagation import extract, inject
from asynctrace.worker.messages import process, publish
from asynctrace.worker.queue import TracedQueue
from asynctrace.worker.running import run

__all__ = ["TracedQueue", "extract", "inject", "process", "publish", "run"]

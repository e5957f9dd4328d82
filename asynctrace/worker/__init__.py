"""Asyncio workers: running one, and handing work from task to task and from process to process.

=========  =================================================================================
running    run(): asyncio.run with tracing, signals, and an orderly end; signals beside it
queue      TracedQueue: items that remember their producer's trace
messages   process(), process_batch() and publish() for brokers
consuming  Worker: several messages at once, in tasks that are owned and drained
sources    what it consumes: async iterators and queues
executors  wrap_executor(): jobs in other threads and processes
=========  =================================================================================
"""

from __future__ import annotations

from asynctrace.propagation import extract, inject
from asynctrace.worker.consuming import Worker
from asynctrace.worker.executors import ContextExecutor, wrap_executor
from asynctrace.worker.messages import process, process_batch, publish
from asynctrace.worker.queue import TracedLifoQueue, TracedPriorityQueue, TracedQueue
from asynctrace.worker.running import run

__all__ = [
    "ContextExecutor",
    "TracedLifoQueue",
    "TracedPriorityQueue",
    "TracedQueue",
    "Worker",
    "extract",
    "inject",
    "process",
    "process_batch",
    "publish",
    "run",
    "wrap_executor",
]

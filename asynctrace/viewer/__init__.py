"""The local collector: it takes what services export and keeps it for looking at.

``otlp_http``  what OTLP over HTTP says about requests and answers; pure
``store``      received spans, bounded
``collector``  the server
"""

from asynctrace.viewer.collector import Collector
from asynctrace.viewer.store import StoreStatistics

__all__ = ["Collector", "StoreStatistics"]

"""Spans into trace trees, and trees into text.

`build` groups spans into `Trace`s, `draw` gives a trace as plain text, `rows` gives the same cells
apart for whoever wants to colour them. Everything here is pure: no clock, no terminal, no colour.
"""

from asynctrace.tree.building import Flaw, Node, S, SpanLike, Trace, build
from asynctrace.tree.drawing import SLOW, Layout, Row, draw, heading, rows
from asynctrace.tree.text import cells, count, duration_text, fit, printable

__all__ = [
    "SLOW",
    "Flaw",
    "Layout",
    "Node",
    "Row",
    "S",
    "SpanLike",
    "Trace",
    "build",
    "cells",
    "count",
    "draw",
    "duration_text",
    "fit",
    "heading",
    "printable",
    "rows",
]

"""The rules of W3C Trace Context as one table: headers in, what has to come out.

It covers what the W3C validation suite asks of a service, and the corners of the specification that
the suite leaves out. Two modules run it: against the functions, and over a real socket.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
VALID = f"00-{TRACE_ID}-{SPAN_ID}-01"

_KEY_CHARACTERS = string.ascii_lowercase + string.digits + "_-*/"
_VALUE_CHARACTERS = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Headers of one request, and what a service has to make of them."""

    rule: str
    headers: tuple[tuple[str, str], ...]
    continued: bool
    """Whether the trace goes on with the sender's trace id."""
    state: str = ""
    """The ``tracestate`` that goes on; empty when it is to be discarded."""
    over_http: bool = True
    """Whether an HTTP client and server let these headers through unchanged."""


def _parent(rule: str, *values: str, continued: bool = False, over_http: bool = True) -> Case:
    headers = tuple(("traceparent", value) for value in values)
    return Case(rule=rule, headers=headers, continued=continued, over_http=over_http)


def _state(rule: str, *values: str, state: str = "", over_http: bool = True) -> Case:
    headers = (("traceparent", VALID), *(("tracestate", value) for value in values))
    return Case(rule=rule, headers=headers, continued=True, state=state, over_http=over_http)


def _numbered(count: int) -> str:
    return ",".join(f"k{number}={number}" for number in range(count))


_PARENTS = [
    _parent("no header at all"),
    _parent("a valid traceparent", VALID, continued=True),
    _parent("not sampled", VALID[:-2] + "00", continued=True),
    _parent("unknown flags do not make it invalid", VALID[:-2] + "fc", continued=True),
    _parent("two different traceparents", VALID, VALID.replace("4736", "4737")),
    _parent("the same traceparent twice", VALID, VALID),
    _parent("two in one header", f"{VALID},{VALID}"),
    _parent("empty", ""),
    _parent("version 00 with a dot at the end", VALID + "."),
    _parent("version 00 with a dash at the end", VALID + "-"),
    _parent("version 00 with more fields", VALID + "-and-more"),
    _parent("a later version", "cc" + VALID[2:], continued=True),
    _parent("the last possible version", "fe" + VALID[2:], continued=True),
    _parent("a later version with more fields", f"01{VALID[2:]}-and-more", continued=True),
    _parent("a later version with an empty field", f"cc{VALID[2:]}-", continued=True),
    _parent("a later version with something else than a dash", f"cc{VALID[2:]}.and-more"),
    _parent("a later version that is too short", "cc" + VALID[2:-1]),
    _parent("a later version in upper case", "CC" + VALID[2:]),
    _parent("version ff", "ff" + VALID[2:]),
    _parent("version ff with more fields", f"ff{VALID[2:]}-and-more"),
    _parent("illegal first character of the version", ".0" + VALID[2:]),
    _parent("illegal second character of the version", "0." + VALID[2:]),
    _parent("version of 3 characters", "0" + VALID),
    _parent("version of 4 characters", "00" + VALID),
    _parent("version of 1 character", VALID[1:]),
    _parent("no version", VALID[3:]),
    _parent("trace id of zeros", VALID.replace(TRACE_ID, "0" * 32)),
    _parent("trace id of zeros in a later version", "cc-" + "0" * 32 + VALID[35:]),
    _parent("illegal first character of the trace id", VALID.replace("-4bf", "-.bf")),
    _parent("illegal last character of the trace id", VALID.replace("4736-", "473.-")),
    _parent("trace id in upper case", VALID.replace(TRACE_ID, TRACE_ID.upper())),
    _parent("trace id too long", VALID.replace(TRACE_ID, TRACE_ID + "1")),
    _parent("trace id too short", VALID.replace(TRACE_ID, TRACE_ID[:-1])),
    _parent("parent id of zeros", VALID.replace(SPAN_ID, "0" * 16)),
    _parent("illegal first character of the parent id", VALID.replace("-00f0", "-.0f0")),
    _parent("illegal last character of the parent id", VALID.replace("02b7-", "02b.-")),
    _parent("parent id in upper case", VALID.replace(SPAN_ID, SPAN_ID.upper())),
    _parent("parent id too long", VALID.replace(SPAN_ID, SPAN_ID + "1")),
    _parent("parent id too short", VALID.replace(SPAN_ID, SPAN_ID[:-1])),
    _parent("illegal first character of the flags", VALID[:-2] + ".0"),
    _parent("illegal second character of the flags", VALID[:-2] + "0."),
    _parent("flags in upper case", VALID[:-2] + "0A"),
    _parent("flags too long", VALID[:-2] + "001"),
    _parent("flags too short", VALID[:-2] + "1"),
    _parent("no flags", VALID[:-3]),
    _parent("another separator", VALID.replace("-", "_")),
    _parent("a space before it", " " + VALID, continued=True),
    _parent("a tab before it", "\t" + VALID, continued=True),
    _parent("a space after it", VALID + " ", continued=True),
    _parent("a tab after it", VALID + "\t", continued=True),
    _parent("spaces and tabs around it", f"\t {VALID} \t", continued=True),
    _parent("a space inside the trace id", VALID.replace("4bf", "4 f")),
    _parent("what int() takes: a sign", VALID.replace("-4bf", "-+bf")),
    _parent("what int() takes: an underscore", VALID.replace("-4bf9", "-4_f9")),
    _parent("what int() takes: a prefix", VALID.replace("-4bf9", "-0xf9")),
    _parent(
        "what int() takes: digits of another script", VALID.replace("77", "٧٧"), over_http=False
    ),
    _parent("full-width digits", VALID.replace("0", "０"), over_http=False),
    _parent("a line break after it", VALID + "\n", over_http=False),
    _parent("a no-break space after it", VALID + "\xa0", over_http=False),
    _parent("a form feed before it", "\x0c" + VALID, over_http=False),
]

_NAMES = [
    Case(rule=f"the name {name}", headers=((name, VALID),), continued=continued)
    for name, continued in [
        ("TraceParent", True),
        ("TrAcEpArEnT", True),
        ("TRACEPARENT", True),
        ("trace-parent", False),
        ("trace.parent", False),
    ]
] + [
    Case(
        rule=f"the name {name}",
        headers=(("traceparent", VALID), (name, "foo=1")),
        continued=True,
        state=state,
    )
    for name, state in [
        ("TraceState", "foo=1"),
        ("TrAcEsTaTe", "foo=1"),
        ("TRACESTATE", "foo=1"),
        ("trace-state", ""),
        ("trace.state", ""),
    ]
]

_STATES = [
    Case(rule="a tracestate alone", headers=(("tracestate", "foo=1,bar=2"),), continued=False),
    Case(
        rule="a tracestate beside an invalid traceparent",
        headers=(("traceparent", VALID + "."), ("tracestate", "foo=1")),
        continued=False,
    ),
    _state("two entries", "foo=1,bar=2", state="foo=1,bar=2"),
    _state("an empty header"),
    _state("an empty header alone", ""),
    _state("an empty header after another", "foo=1", "", state="foo=1"),
    _state("an empty header before another", "", "foo=1", state="foo=1"),
    _state("empty members", ",foo=1,, \t,bar=2,", state="foo=1,bar=2"),
    _state("several headers, in order", "c=1,a=2", "b=3", "a0=4", state="c=1,a=2,b=3,a0=4"),
    _state("a key twice, equal", "foo=1,foo=1"),
    _state("a key twice, different", "foo=1,foo=2"),
    _state("a key in two headers, equal", "foo=1", "foo=1"),
    _state("a key in two headers, different", "foo=1", "bar=3,foo=2"),
    _state(
        "every character of a key and of a value",
        f"{_KEY_CHARACTERS}={_VALUE_CHARACTERS}",
        state=f"{_KEY_CHARACTERS}={_VALUE_CHARACTERS}",
    ),
    _state(
        "every character of a key with @",
        f"{_KEY_CHARACTERS}@a-z0-9_*/={_VALUE_CHARACTERS}",
        state=f"{_KEY_CHARACTERS}@a-z0-9_*/={_VALUE_CHARACTERS}",
    ),
    _state("spaces and tabs", "foo=1 \t , \t b=2, \t c=3", state="foo=1,b=2,c=3"),
    _state("tabs and spaces", "foo=1\t \t,\t \tb=2,\t \tc=3", state="foo=1,b=2,c=3"),
    _state("a space before", " foo=1", state="foo=1"),
    _state("a tab before", "\tfoo=1", state="foo=1"),
    _state("a space after", "foo=1 ", state="foo=1"),
    _state("a tab after", "foo=1\t", state="foo=1"),
    _state("white space on both sides", "\t foo=1 \t", state="foo=1"),
    _state("leading spaces belong to the value", "foo=  1", state="foo=  1"),
    _state("a space before the equals sign", "foo =1"),
    _state("a key in upper case", "FOO=1"),
    _state("a dot in a key", "foo.bar=1"),
    _state("a key of another script", "föö=1", over_http=False),
    _state("a key that begins with a digit", "0a=1,1=2", state="0a=1,1=2"),
    _state("a key that begins with an underscore", "_a=1"),
    _state("no key", "=1"),
    _state("no equals sign", "foo"),
    _state("nothing after the @", "foo@=1,bar=2"),
    _state("nothing before the @", "@foo=1,bar=2"),
    _state("two @ side by side", "foo@@bar=1,bar=2"),
    _state("two @ apart", "foo@bar@baz=1,bar=2"),
    _state("a digit before and after the @", "1@2=3", state="1@2=3"),
    _state("32 entries", _numbered(32), state=_numbered(32)),
    _state("32 entries and empty ones", _numbered(32), "", ",", state=_numbered(32)),
    _state("33 entries", _numbered(33)),
    _state("33 entries in three headers", _numbered(32), "", "z=1"),
    _state("a key of 256", "foo=1", "z" * 256 + "=1", state="foo=1," + "z" * 256 + "=1"),
    _state("a key of 257", "foo=1", "z" * 257 + "=1"),
    _state(
        "241 before the @ and 14 after",
        "foo=1",
        "t" * 241 + "@" + "v" * 14 + "=1",
        state="foo=1," + "t" * 241 + "@" + "v" * 14 + "=1",
    ),
    _state("242 before the @", "foo=1", "t" * 242 + "@v=1"),
    _state("15 after the @", "foo=1", "t@" + "v" * 15 + "=1"),
    _state("two equals signs", "foo=bar=baz"),
    _state("an empty value", "foo=,bar=3"),
    _state("a value of 256", "foo=" + "v" * 256, state="foo=" + "v" * 256),
    _state("a value of 257", "foo=" + "v" * 257),
    _state("a value of another script", "foo=ü", over_http=False),
    _state("a tab inside a value", "foo=a\tb"),
    _state("a control character in a value", "foo=a\x7fb", over_http=False),
    _state("a header beyond all measure", "," * 100_000 + "foo=1", over_http=False),
]

CASES = [*_PARENTS, *_NAMES, *_STATES]

"""asynctrace.logging: records that say in which span they were written."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.config
import logging.handlers
import pickle
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import asynctrace
from asynctrace import logging as traced_logging
from asynctrace.context import span
from asynctrace.logging import FIELDS, FORMAT, TracedRecord, TraceFilter, TraceFormatter, fields
from tests.context.recording import Recording, recording

NOTHING = {"trace_id": "", "span_id": "", "trace_sampled": False, "service": ""}


@pytest.fixture
def traced_spans() -> Iterator[Recording]:
    with recording() as record:
        yield record


@pytest.fixture
def installed() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    traced_logging.install()
    yield
    traced_logging.uninstall()
    assert logging.getLogRecordFactory() is before


class Log:
    """A logger of its own with one handler."""

    def __init__(self, formatter: logging.Formatter, name: str = "test.traced") -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(formatter)
        self.logger = logging.getLogger(name)
        self.logger.handlers = [self.handler]
        self.logger.filters = []
        self.logger.propagate = False

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def ids(of: trace.Span) -> tuple[str, str]:
    context = of.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("%", "%(trace_id)s %(span_id)s %(trace_sampled)s [%(service)s] %(message)s"),
        ("{", "{trace_id} {span_id} {trace_sampled} [{service}] {message}"),
        ("$", "$trace_id $span_id $trace_sampled [$service] $message"),
    ],
)
def test_every_style_of_format(
    installed: None, traced_spans: Recording, style: Any, text: str
) -> None:
    """Inside of a span and outside."""
    log = Log(logging.Formatter(text, style=style))
    with span("work") as work:
        log.logger.warning("in %s", "it")
    log.logger.warning("out")
    assert log.lines == [f"{' '.join(ids(work))} True [] in it", "  False [] out"]


def test_the_span_of_the_record(installed: None, traced_spans: Recording) -> None:
    """It is the one of where the record was made, whichever thread formats it, and when."""
    log = Log(logging.Formatter(FORMAT))
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, log.handler)
    log.logger.handlers = [logging.handlers.QueueHandler(records)]
    with span("work") as work:
        log.logger.warning("message")
    with span("other"):
        thread = threading.Thread(target=listener.handle, args=(records.get(),))
        thread.start()
        thread.join()
    trace_id, span_id = ids(work)
    assert f"trace_id={trace_id} span_id={span_id} message" in log.lines[0]


def test_formatters_that_dump_the_record(installed: None, traced_spans: Recording) -> None:
    """Those find the fields, as plain values, and nothing else of ours."""

    class Json(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            usual = vars(logging.makeLogRecord({})).keys() - set(FIELDS)
            record.getMessage()
            return json.dumps({k: v for k, v in vars(record).items() if k not in usual})

    log = Log(Json())
    with span("work") as work:
        log.logger.warning("message", extra={"user": "ann"})
    trace_id, span_id = ids(work)
    assert json.loads(log.lines[0]) == {
        "user": "ann",
        "trace_id": trace_id,
        "span_id": span_id,
        "trace_sampled": True,
        "service": "",
    }


def test_nothing_is_worked_out_that_is_not_formatted(
    installed: None, traced_spans: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that no handler formats looks nothing up."""
    monkeypatch.setattr(traced_logging, "fields", lambda span: pytest.fail("worked out"))
    log = Log(logging.Formatter())
    log.logger.handlers = [logging.NullHandler()]
    with span("work"):
        log.logger.warning("message")


def test_attributes_copies_and_pickles(installed: None, traced_spans: Recording) -> None:
    """A filter may ask for a field; a copy and a pickle of a record keep them."""
    with span("work") as work:
        for change in (lambda r: r, copy.copy, lambda r: pickle.loads(pickle.dumps(r))):
            record = change(logging.getLogRecordFactory()("n", 30, "p", 1, "m", (), None))
            assert isinstance(record, TracedRecord)
            assert (record.trace_id, record.span_id) == ids(work)
            assert record.trace_sampled is True
            assert record.getMessage() == "m"
    with pytest.raises(AttributeError, match="nonsense"):
        record.nonsense  # noqa: B018


def test_own_values_stay(installed: None, traced_spans: Recording) -> None:
    """What `extra` has set is not replaced."""
    log = Log(logging.Formatter("%(trace_id)s"))
    with span("work"):
        log.logger.warning("message", extra={"trace_id": "mine"})
    assert log.lines == ["mine"]


def test_around_the_factory_of_somebody_else(traced_spans: Recording) -> None:
    """Theirs makes the records, ours adds the fields; uninstalling puts theirs back."""

    class Record(logging.LogRecord):
        pass

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Record)
    try:
        traced_logging.install()
        traced_logging.install()
        with span("work") as work:
            record = logging.getLogRecordFactory()("n", 30, "p", 1, "m", (), None)
        assert isinstance(record, Record)
        assert record.trace_id == ids(work)[0]
        traced_logging.uninstall()
        assert logging.getLogRecordFactory() is Record
        traced_logging.install()
        logging.setLogRecordFactory(before)
        traced_logging.uninstall()  # not ours to put back
        assert logging.getLogRecordFactory() is before
    finally:
        logging.setLogRecordFactory(before)


class SlottedRecord(logging.LogRecord):
    """What somebody else's factory makes: with a slot, and attributes that it makes up."""

    __slots__ = ("weight",)

    def __getattr__(self, name: str) -> Any:
        if name == "made_up":
            return "yes"
        raise AttributeError(name)


def make_plain(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    record.custom = "theirs"
    return record


@pytest.fixture(params=[SlottedRecord, make_plain])
def around(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Installed around the factory of somebody else."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(request.param)
    traced_logging.install()
    yield request.param
    traced_logging.uninstall()
    assert logging.getLogRecordFactory() is request.param
    logging.setLogRecordFactory(before)


def test_extra_of_our_names(around: Any, traced_spans: Recording) -> None:
    """Another factory is no reason to refuse `extra` that nobody else would refuse."""
    log = Log(logging.Formatter("%(service)s %(trace_id)s %(message)s"))
    with span("work") as work:
        log.logger.warning("message", extra={"service": "mine"})
        TraceFilter().filter(record := logging.makeLogRecord({"service": "mine"}))
    assert log.lines == [f"mine {ids(work)[0]} message"]
    assert record.__dict__["service"] == "mine"


def test_nothing_is_worked_out_around_another_factory(
    around: Any, traced_spans: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it there: a record that no handler formats looks nothing up."""
    monkeypatch.setattr(traced_logging, "fields", lambda span: pytest.fail("worked out"))
    log = Log(logging.Formatter())
    log.logger.handlers = [logging.NullHandler()]
    log.logger.filters = [lambda record: getattr(record, "tenant", None) is None]
    with span("work"):
        log.logger.warning("message")


def test_records_of_another_factory(around: Any, traced_spans: Recording) -> None:
    """They are asked, copied and pickled like any other, and their class is theirs in the end."""
    theirs = type(around("n", 30, "p", 1, "m", (), None))
    with span("work") as work:
        for change in (lambda r: r, copy.copy, lambda r: pickle.loads(pickle.dumps(r))):
            made = logging.getLogRecordFactory()("n", 30, "p", 1, "m %s", (1,), None)
            assert isinstance(made, theirs)
            if theirs is SlottedRecord:
                assert made.made_up == "yes"
            else:
                assert made.custom == "theirs"
            with pytest.raises(AttributeError):
                made.nonsense  # noqa: B018
            record = change(made)
            assert (record.trace_id, record.span_id) == ids(work)
            assert record.getMessage() == "m 1"
            assert type(record) is theirs
            assert not [name for name in vars(record) if name.startswith("_")]


def test_record_class_that_cannot_be_derived_from(traced_spans: Recording) -> None:
    """It gets its fields at once."""

    class Final(logging.LogRecord):
        def __init_subclass__(cls) -> None:
            raise TypeError("final")

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Final)
    traced_logging.install()
    try:
        with span("work") as work:
            record = logging.getLogRecordFactory()("n", 30, "p", 1, "m", (), None)
    finally:
        traced_logging.uninstall()
        logging.setLogRecordFactory(before)
    assert type(record) is Final
    assert record.__dict__["trace_id"] == ids(work)[0]


def test_our_own_factory_inside_of_another(installed: None, traced_spans: Recording) -> None:
    """A record of ours that somebody else's factory hands on is left as it is."""
    factory = traced_logging._Around(TracedRecord)
    with span("work") as work:
        record = factory("n", 30, "p", 1, "m", (), None)
    assert type(record) is TracedRecord
    assert record.trace_id == ids(work)[0]


def test_filter_and_formatter_by_hand(traced_spans: Recording) -> None:
    """Without install(), for one logger, or one handler."""
    log = Log(logging.Formatter("%(trace_id)s %(message)s"))
    log.handler.addFilter(TraceFilter())
    other = Log(TraceFormatter("%(span_id)s %(message)s"), "test.other")
    with span("work") as work:
        log.logger.warning("a")
        other.logger.warning("b")
    assert log.lines == [f"{ids(work)[0]} a"]
    assert other.lines == [f"{ids(work)[1]} b"]
    log.handler.filters.clear()
    assert "trace_id=" in TraceFormatter().format(logging.makeLogRecord({"msg": "x"}))


def test_configured_by_dict(traced_spans: Recording) -> None:
    """Filter and formatter can be named in a configuration; its default format is ours."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"trace": {"()": "asynctrace.logging.TraceFilter"}},
            "formatters": {
                "ours": {"class": "asynctrace.logging.TraceFormatter"},
                "made": {"()": "asynctrace.logging.TraceFormatter"},
                "braces": {"class": "asynctrace.logging.TraceFormatter", "style": "{"},
                "plain": {"format": "%(span_id)s %(message)s"},
            },
            "handlers": {
                name: {"class": "logging.StreamHandler", "formatter": name, "filters": filters}
                for name, filters in {
                    "ours": [], "made": [], "braces": [], "plain": ["trace"]
                }.items()
            },
            "loggers": {
                f"test.configured.{name}": {"handlers": [name], "propagate": False}
                for name in ("ours", "made", "braces", "plain")
            },
        }
    )  # fmt: skip
    told = {}
    with span("work") as work:
        for name in ("ours", "made", "braces", "plain"):
            logger = logging.getLogger(f"test.configured.{name}")
            logger.handlers[0].setStream(stream := io.StringIO())  # type: ignore[attr-defined]
            logger.warning("x")
            told[name] = stream.getvalue()
    trace_id, span_id = ids(work)
    for name in ("ours", "made"):
        assert told[name].endswith(f"trace_id={trace_id} span_id={span_id} x\n")
    assert (told["braces"], told["plain"]) == ("x\n", f"{span_id} x\n")


@pytest.mark.parametrize(
    "sent",
    [
        lambda record: pickle.loads(logging.handlers.SocketHandler("", 0).makePickle(record)[4:]),
        logging.handlers.HTTPHandler("", "").mapLogRecord,
    ],
    ids=["socket", "http"],
)
def test_handlers_that_send_without_formatting(
    installed: None, traced_spans: Recording, sent: Any
) -> None:
    """With a TraceFilter on them, they send the fields of the record's own span."""
    with span("work") as work:
        record = logging.getLogRecordFactory()("n", 30, "p", 1, "m", (), None)
    handler = logging.NullHandler()
    handler.addFilter(TraceFilter())
    assert handler.filter(record)
    assert (sent(record)["trace_id"], sent(record)["span_id"]) == ids(work)


def test_filter_on_an_installed_record(installed: None, traced_spans: Recording) -> None:
    """Both together agree on the span of the record."""
    with span("work") as work:
        record = logging.getLogRecordFactory()("n", 30, "p", 1, "m", (), None)
    TraceFilter().filter(record)
    assert record.__dict__["trace_id"] == ids(work)[0]


def test_fields() -> None:
    """Those of the current span, or of a given one; also of one that is not sampled."""
    assert fields() == NOTHING
    with recording(ALWAYS_OFF), span("work") as work:
        told = fields()
    assert (told["trace_id"], told["span_id"]) == ids(work)
    assert told["trace_sampled"] is False
    assert fields(work)["trace_id"] == ids(work)[0]


async def test_service() -> None:
    """It is the name in the resource of the tracing that runs."""
    async with asynctrace.init(service_name="shop", exporter="none"):
        assert fields()["service"] == "shop"
    assert fields()["service"] == ""

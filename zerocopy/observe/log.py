"""Logs: one event a line on standard error, JSON for machines, readable on a terminal.

Owns the way of an event from `get_logger` to a line: its level, its rate, its form and its writer.
docs/events.md lists every event. Logging never blocks: a thread writes the lines from a queue
(`log_writer.py`), so a reader that stops cannot stop the server. What other code writes to standard
error becomes an event, too (`log_stray.py`).
"""

from __future__ import annotations

import atexit
import logging
import sys
from typing import TYPE_CHECKING, Any

from zerocopy.core import counters as slots
from zerocopy.observe.log_format import console_form, json_form
from zerocopy.observe.log_limit import RateLimit
from zerocopy.observe.log_stray import take_over
from zerocopy.observe.log_writer import LineWriter
from zerocopy.observe.structlog_import import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from zerocopy.config.options import LogTable
    from zerocopy.core.counters import Counters

get_logger = structlog.get_logger

_log = get_logger(__name__)


class Log:
    """What `configure_logging` has set up; a worker has its losses told now and then."""

    def __init__(self, lines: LineWriter, limit: RateLimit) -> None:
        self._lines = lines
        self._limit = limit
        self._dropped = 0

    def tell_losses(self, counters: Counters) -> None:
        """Count and log the lines that were dropped or suppressed since the last call."""
        for event, count in self._limit.take_suppressed().items():
            counters[slots.LOG_LINES_SUPPRESSED] += count
            _log.warning("lines_suppressed", of=event, count=count)
        dropped = self._lines.dropped - self._dropped
        if dropped:
            self._dropped += dropped
            counters[slots.LOG_LINES_DROPPED] += dropped
            if self._lines.has_room:
                _log.warning("lines_dropped", count=dropped)


class _Output:
    """What structlog calls a logger: takes rendered lines of any level."""

    def __init__(self, lines: LineWriter) -> None:
        self.debug = self.info = self.warning = self.error = lines.put


def configure_logging(table: LogTable, worker: int | None = None) -> Log:
    """Set up structlog as `[log]` says; lines of a `worker` name it, and their rate is limited.

    The form `auto` looks at standard error: a terminal gets lines for people. The journal is a
    socket, never a terminal, whatever JOURNAL_STREAM an interactive session may have inherited.
    """
    is_terminal = sys.stderr.isatty()
    console = table.format == "console" or (table.format == "auto" and is_terminal)
    lines = LineWriter(sys.stderr.fileno(), table.lines_waiting_max)
    limit = RateLimit(table.events_per_second_max)
    atexit.register(lines.close)

    def name_worker(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    processors: list[Processor] = [] if worker is None else [limit, name_worker]
    form: Any = console_form(colors=is_terminal) if console else json_form
    processors += [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        form,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(table.level.upper())
        ),
        logger_factory=lambda *_: _Output(lines),
        cache_logger_on_first_use=True,
    )
    take_over()
    return Log(lines, limit)

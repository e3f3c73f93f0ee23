"""What other code would write to standard error: its lines become events of the log.

Owns the hooks of the interpreter and of its library: loggers, warnings, uncaught exceptions, and
`sys.stderr` itself for the rest. It must never know the form of a line.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from zerocopy.observe.structlog_import import structlog

if TYPE_CHECKING:
    from types import TracebackType

_log = structlog.get_logger(__name__)


def take_over() -> None:
    """Have the log tell what this process says besides it, from now on."""
    root = logging.getLogger()
    root.handlers[:] = [_Records()]
    logging.captureWarnings(capture=True)
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_thread_failed
    sys.unraisablehook = _on_unraisable
    if not isinstance(sys.stderr, Stray):
        sys.stderr = Stray(sys.stderr)


class Stray(io.TextIOBase):
    """Stands for `sys.stderr`: each line that is written to it is an event."""

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath
        self._piece = ""

    def fileno(self) -> int:
        """The descriptor, for code that writes without Python's streams."""
        return self.beneath.fileno()

    def writable(self) -> bool:
        """Text may be written."""
        return True

    def write(self, text: str) -> int:
        """Tell every line that is whole now."""
        *lines, self._piece = (self._piece + text).split("\n")
        for line in filter(str.strip, lines):
            _log.warning("stray_line", detail=line)
        return len(text)


class _Records(logging.Handler):
    """The records of libraries' loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one; errors of asyncio reach the handler of the loop, and are no records."""
        fault = record.exc_info or None
        try:
            detail = record.getMessage()
        except Exception as error:  # noqa: BLE001 - the library's mistake is no reason to raise in it
            detail = f"{record.msg!r} % {record.args!r}: {error!r}"
        if record.levelno >= logging.ERROR:
            _log.error("library_error", logger=record.name, detail=detail, exc_info=fault)
        elif record.levelno >= logging.WARNING and record.name != "asyncio":
            _log.warning("library_warning", logger=record.name, detail=detail, exc_info=fault)
        else:  # asyncio and uvloop warn of clients that have left: "SSL connection is closed"
            _log.debug("library_note", logger=record.name, detail=detail, exc_info=fault)


def _on_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Log the exception that ends the process."""
    _log.error("uncaught", exc_info=(kind, error, trace))


def _on_thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Log the exception that ends a thread; SystemExit ends it in order."""
    if failure.exc_type is not SystemExit:
        name = None if failure.thread is None else failure.thread.name
        _log.error("thread_failed", thread=name, exc_info=failure.exc_value)


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Log an exception that Python cannot raise: from a finalizer or an OpenSSL callback."""
    _log.warning("unraisable", detail=repr(unraisable.exc_value), where=repr(unraisable.object))

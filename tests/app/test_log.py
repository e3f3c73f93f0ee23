"""Logs: one event is one line, whatever a name from outside holds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

EVIL = 'a\nb\r\n\u2028\u2029\x1b[31m{"event": "forged"}\x00\x85"\\'

PROGRAM = f"""
import structlog
from zerocopy.app.log import configure_logging
configure_logging("warning", "FORM")
log = structlog.get_logger("t")
log.info("not written")
log.warning("asked", symbol={EVIL!r}, days=[{EVIL!r}])
try:
    raise ValueError({EVIL!r})
except ValueError as error:
    log.error("failed", exc_info=error)
"""


def lines_of(form: str) -> list[bytes]:
    """What a process that logs in this form writes to standard error, cut at line feeds."""
    program = PROGRAM.replace("FORM", form)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b""
    return done.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_event_is_one_line_of_json_whatever_it_holds(form: str) -> None:
    """Line breaks in a value are escaped, so nobody can forge a line; a traceback is one line."""
    asked, failed = map(json.loads, lines_of(form))
    assert (asked["event"], asked["level"]) == ("asked", "warning")
    assert (asked["symbol"], asked["days"]) == (EVIL, [EVIL])
    assert failed["event"] == "failed"
    assert "ValueError" in failed["exception"]
    assert asked["timestamp"].endswith("Z")


def test_console_form_escapes_what_could_forge_a_line() -> None:
    """For people too a value stays on its line, and cannot steer the terminal."""
    asked = lines_of("console")[0]
    assert b"asked" in asked
    assert b"forged" in asked
    assert b"\x1b[31m" not in asked

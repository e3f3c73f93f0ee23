"""Logs: one event is one line, whatever a name from outside holds, and nobody waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.terminal import open_terminal

EVIL = 'a\nb\r\n\u2028\u2029\x1b[31m{"event": "forged"}\x00\x7f\x85"\\'

PROGRAM = f"""
from zerocopy.observe.log import configure_logging, get_logger
from zerocopy.config.options import LogTable
configure_logging(LogTable(level="warning", format="FORM"), WORKER)
log = get_logger("t")
log.info("not written")
log.warning("asked", symbol={EVIL!r}, days=[{EVIL!r}])
try:
    raise ValueError({EVIL!r})
except ValueError as error:
    log.error("failed", exc_info=error)
"""


def program(form: str, worker: int | None) -> list[str]:
    """The command of a process that logs in this form."""
    return [sys.executable, "-c", PROGRAM.replace("FORM", form).replace("WORKER", str(worker))]


def lines_of(
    form: str, worker: int | None = None, environ: dict[str, str] | None = None
) -> list[bytes]:
    """What such a process writes to standard error, a pipe, cut at line feeds."""
    command, environment = program(form, worker), {**os.environ, **(environ or {})}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert done.stdout == b""
    return done.stderr.splitlines()


@pytest.mark.parametrize("environ", [{}, {"JOURNAL_STREAM": "8:1"}], ids=["pipe", "journal"])
@pytest.mark.parametrize("form", ["json", "auto"])
def test_event_is_one_line_of_json_whatever_it_holds(form: str, environ: dict[str, str]) -> None:
    """Line breaks in a value are escaped, so nobody can forge a line; a traceback is one line."""
    asked, failed = map(json.loads, lines_of(form, environ=environ))
    assert list(asked)[:3] == ["timestamp", "level", "event"]
    assert (asked["event"], asked["level"]) == ("asked", "warning")
    assert (asked["symbol"], asked["days"]) == (EVIL, [EVIL])
    assert failed["event"] == "failed"
    assert "ValueError" in failed["exception"]
    assert asked["timestamp"].endswith("Z")
    assert "worker" not in asked


def test_line_of_a_worker_names_it() -> None:
    """Several workers share a standard error."""
    asked, failed = map(json.loads, lines_of("json", 3))
    assert (asked["worker"], failed["worker"]) == (3, 3)


def test_console_form_escapes_what_could_forge_a_line() -> None:
    """For people too a value stays on its line, a traceback is indented, nothing steers."""
    lines = lines_of("console")
    assert b"asked" in lines[0]
    assert b"forged" in lines[0]
    assert b"ValueError" in b"".join(lines)
    assert sum(b"forged" in line for line in lines) >= 2
    for line in lines:
        assert line.isascii()
        assert all(32 <= byte < 127 for byte in line), line
    assert all(line.startswith((b"20", b"    | ")) for line in lines)


def test_terminal_gets_words_in_colors_where_nothing_else_is_said() -> None:
    """`auto` looks at standard error itself: JOURNAL_STREAM may be inherited from a session."""
    ours, theirs = open_terminal()
    environment = {**os.environ, "JOURNAL_STREAM": "8:1"}
    subprocess.run(program("auto", None), stderr=theirs, check=True, env=environment)
    os.close(theirs)
    seen = os.read(ours, 65_536)
    os.close(ours)
    assert b"\x1b[33mwarning\x1b[0m asked" in seen
    assert b"\x1b[31m{" not in seen


def test_worker_starts_without_rich() -> None:
    """Structlog alone would import it, which costs each worker a tenth of a second."""
    program = "import sys, zerocopy.supervise.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not [name for name in done.stdout.split() if name.partition(b".")[0] == b"rich"]


def test_pipe_that_nobody_reads_stops_neither_the_process_nor_its_end() -> None:
    """Ten thousand lines into a full pipe: nothing waits, and at the end a second at most."""
    ours, theirs = os.pipe()
    code = """
import sys
from zerocopy.observe.log import configure_logging, get_logger
from zerocopy.core.counters import LOG_LINES_DROPPED, SLOTS
from zerocopy.config.options import LogTable
log = configure_logging(LogTable(format="json", lines_waiting_max=100))
for number in range(10_000):
    get_logger().info("asked", number=number, filling="x" * 100)
counters = [0] * len(SLOTS)
log.tell_losses(counters)
print(counters[LOG_LINES_DROPPED])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, timeout=30, check=True
    )
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        lines = pipe.read().splitlines()
    dropped = int(done.stdout)
    assert dropped > 9_000
    written = [json.loads(line)["number"] for line in lines[:-1]]
    assert written == sorted(set(written))
    assert len(written) + dropped <= 10_000 <= len(written) + dropped + 200

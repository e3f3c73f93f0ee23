"""What others write to standard error: events of the log like all others."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import asyncio, logging, sys, threading, traceback, warnings, wsgiref.handlers
from zerocopy.observe.log import configure_logging
from zerocopy.config.options import LogTable
configure_logging(LogTable(level="LEVEL", format="json"), WORKER)

class Unlucky:
    def __del__(self):
        raise ValueError("finalizer")

def fail():
    raise ValueError("thread")

print("bare", file=sys.stderr)
sys.stderr.write("in ")
sys.stderr.write("pieces\\n\\n")
warnings.warn("warned")
logging.getLogger("asyncio").warning("SSL connection is closed")
logging.getLogger("library").warning("odd %s", "one")
logging.getLogger("library").error("bad")
logging.getLogger("library").warning("%d", "no number")
logging.getLogger("library").info("nothing")
logging.warning("root")
thread = threading.Thread(target=fail, name="mine")
thread.start()
thread.join()
Unlucky()
try:
    raise ValueError("printed")
except ValueError:
    traceback.print_exc()

async def leave_behind():
    async def failing():
        raise ValueError("task")
    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

asyncio.run(leave_behind())
raise ValueError("uncaught")
"""


def lines(level: str, worker: int | None) -> list[dict[str, Any]]:
    """What such a process writes to standard error; every line is JSON."""
    code = PROGRAM.replace("LEVEL", level).replace("WORKER", str(worker))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize("worker", [None, 3])
def test_everything_on_standard_error_is_an_event(worker: int | None) -> None:
    """Loggers, warnings, threads, finalizers, print, and what ends the process."""
    found = lines("info", worker)
    told = [(line["event"], line.get("detail")) for line in found]
    assert told[:2] == [("stray_line", "bare"), ("stray_line", "in pieces")]
    assert ("library_warning", "odd one") in told
    assert ("library_warning", "root") in told
    assert ("library_error", "bad") in told
    assert any("no number" in str(detail) for _, detail in told), "a library's own mistake"
    assert ("unraisable", "ValueError('finalizer')") in told
    assert ("stray_line", "ValueError: printed") in told
    by_event = {line["event"]: line for line in found}
    assert "warned" in next(line["detail"] for line in found if line.get("logger") == "py.warnings")
    assert "ValueError: thread" in by_event["thread_failed"]["exception"]
    assert by_event["thread_failed"]["thread"] == "mine"
    assert any("ValueError: task" in str(line.get("exception")) for line in found)
    assert "ValueError: uncaught" in by_event["uncaught"]["exception"]
    assert not any("SSL connection" in str(line) for line in found)


def test_remarks_of_the_event_loop_are_told_at_level_debug() -> None:
    """A client that leaves is no news, but somebody may be looking for it."""
    notes = [line for line in lines("debug", None) if line["event"] == "library_note"]
    assert {"SSL connection is closed"} <= {note["detail"] for note in notes}

"""Autobahn's fuzzing client (PyPI: autobahntestsuite) as the judge of a WebSocket without echo.

It is a program for Python 2.7, so nothing installs it here: `WSTEST` names its command `wstest`.
Most of its cases ask for an echo, which no stream of this server gives. Of those the pongs, the
close codes and the end are judged in tests/transport/websocket/test_autobahn_cases.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.transport.feeds import FakeFeed
from tests.transport.http1.bench import Bench, FileSource, run
from zerocopy.core.http.messages import Request, Response

if TYPE_CHECKING:
    from pathlib import Path

WSTEST = os.environ.get("WSTEST", "")
GOOD = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})
CASES = ["2.*", "3.*", "4.*", "5.*", "6.*", "7.*"]
NOT_REQUIRED = frozenset({"2.10", "2.11"})
"""A pong for each of ten pings, which the suite itself calls more than the RFC asks for."""


def asks_for_echo(case: dict[str, Any]) -> bool:
    """Whether every outcome that the case would take has a message of the server's in it."""
    return all(
        any(event[0] == "message" for event in events) for events in case["expected"].values()
    )


async def _silent(request: Request) -> Response:  # noqa: ARG001 - as the handler has it
    return Response(200, (), feed=FakeFeed())


def _later(request: Request, times: int = 1) -> Response | None:  # noqa: ARG001
    return None


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not WSTEST, reason="WSTEST names no program")
def test_autobahn_finds_no_fault(tmp_path: Path) -> None:
    """Each case that asks for no echo is passed, and no case is a fault of the server's."""
    (tmp_path / "file").write_bytes(b"x")
    report = tmp_path / "report"

    async def scenario(bench: Bench) -> None:
        bench.handler.respond = _silent  # type: ignore[method-assign]
        bench.handler.respond_now = _later  # type: ignore[method-assign]
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        bench.server._acceptor.stop()  # it has begun with none
        bench.server._acceptor.start([listener])
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        spec = {
            "options": {"failByDrop": False},
            "outdir": str(report),
            "servers": [{"agent": "zerocopy", "url": url}],
            "cases": CASES,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        program = await asyncio.create_subprocess_exec(
            WSTEST, "-m", "fuzzingclient", "-s", "spec.json", cwd=tmp_path
        )
        assert await program.wait() == 0
        assert bench.faults == []

    run(FileSource(tmp_path / "file"), scenario, patience_s=280)
    found = json.loads((report / "index.json").read_text())["zerocopy"]
    assert len(found) > 200
    judged = {
        number: json.loads((report / case["reportfile"]).read_text())
        for number, case in found.items()
    }
    bad = {
        number: (case["behavior"], case["behaviorClose"], case["expected"])
        for number, case in judged.items()
        if number not in NOT_REQUIRED
        and not asks_for_echo(case)
        and not (case["behavior"] in GOOD and case["behaviorClose"] in GOOD)
    }
    assert bad == {}
    assert sum(case["behavior"] in GOOD for case in judged.values()) > 140

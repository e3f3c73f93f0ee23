"""schemathesis asks what /openapi.json describes and what it excludes, and judges the answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.certificate import authority
from tests.server import ForkedServer, RunningServer
from tests.storage.trees import marks, put, u32
from zerocopy.access.keys import add_key
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from pathlib import Path

HOOKS = os.path.join(os.path.dirname(__file__), "schemathesis_hooks.py")
ENDLESS = "/api/live"
PHASES = "examples,coverage,fuzzing"
"""The examples of the document, boundary values of every parameter, then what it makes up."""
EXAMPLES_MAX = 100
"""Of what it makes up, for each operation and mode."""


def make_root(root: Path) -> None:
    """Data for the names that the document gives as examples, so that some answers are 200."""
    for exchange in ("kraken", "coinbase"):
        put(
            str(root),
            {"time": u32(1, 2), "price": marks(2)},
            series=Series(exchange, "BTC-USD", "MD"),
        )


def judge(
    server: RunningServer, folder: Path, phases: str, *, over_tls: bool, key: str | None
) -> list[dict[str, Any]]:
    """Run schemathesis against a server; its report, one event a line.

    With a `key` the server asks for one, and says so: schemathesis leaves it out now and then, and
    asks with a wrong one, and expects 401.
    """
    header = () if key is None else ("--header", f"Authorization: Bearer {key}")
    port = server.tls_port if over_tls else server.plain_port
    authority().cert_pem.write_to_path(str(folder / "ca.pem"))
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("run", f"http{'s' * over_tls}://127.0.0.1:{port}/openapi.json"),
            *("--checks", "all", "--max-examples", f"{EXAMPLES_MAX}", "--generation-deterministic"),
            *("--exclude-path", ENDLESS),
            *header,
            *("--request-timeout", "20", "--no-color", "--phases", phases),
            *("--tls-verify", "ca.pem", "--report", "ndjson"),
            *("--report-ndjson-path", "report.ndjson", "--continue-on-failure"),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    lines = (folder / "report.ndjson").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def tried(report: list[dict[str, Any]]) -> tuple[set[str], Counter[int]]:
    """The operations that were tried, and how often each status came."""
    recorders = [
        event["ScenarioFinished"]["recorder"] for event in report if "ScenarioFinished" in event
    ]
    statuses = Counter(
        interaction["response"]["status_code"]
        for recorder in recorders
        for interaction in recorder.get("interactions", {}).values()
    )
    return {recorder["label"] for recorder in recorders}, statuses


@pytest.mark.timeout(300)
def test_every_answer_is_one_that_the_document_describes(tmp_path: Path) -> None:
    """All checks of schemathesis, for every operation: statuses, types, fields, schemas, methods.

    The document itself is what it begins with, so it does not ask for that again. It would wait for
    the end of a live stream, of which there is none.
    """
    statuses = check(tmp_path, "examples", over_tls=False, has_key=True)
    assert statuses[200] >= 5, "some of what was asked for must be there"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("has_key", [False, True], ids=["open", "keys"])
def test_every_answer_to_many_more_is_one_that_the_document_describes(
    tmp_path: Path, *, over_tls: bool, has_key: bool
) -> None:
    """The same for boundary values and much else, without keys too, and over TLS, by HTTP/1.1."""
    statuses = check(tmp_path, PHASES, over_tls=over_tls, has_key=has_key)
    assert statuses.keys() >= {200, 204, 400, 404, 405}
    assert statuses[200] >= 20, "some of what was asked for must be there"


def check(folder: Path, phases: str, *, over_tls: bool, has_key: bool) -> Counter[int]:
    """Have every operation judged; how often each status came."""
    make_root(folder / "root")
    path = str(folder / "keys.json")
    key = add_key(path, "schemathesis") if has_key else None
    environ = {"ZEROCOPY_AUTH_KEYS_PATH": path} if has_key else {}
    fields = {"Authorization": f"Bearer {key}"} if has_key else {}
    with ForkedServer(folder / "root", ZEROCOPY_TLS_PORT="0", **environ) as server:
        told = server.get("/openapi.json", fields=fields)
        paths: dict[str, Any] = json.loads(told.content)["paths"]
        report = judge(server, folder, phases, over_tls=over_tls, key=key)
        operations, statuses = tried(report)
        if key is not None:
            assert statuses[401] > 0
            assert key not in server.log_text()
        assert server.event("internal_error") is None
    described = {f"{method.upper()} {path}" for path in paths for method in paths[path]}
    endless = {operation for operation in described if operation.endswith(ENDLESS)}
    assert operations == described - endless - {"GET /openapi.json"}
    return statuses

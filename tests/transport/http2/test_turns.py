"""Turns of large answers over HTTP/2 beside small ones, as a real server takes them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import MEDIUM, SMALL, Client, body_of, request_of, seal, write_series
from tests.faults.download import BOTH_LISTENERS
from tests.h2client import H2Client
from tests.server import RunningServer
from zerocopy.transport.scheduler import COLD_TURN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRYING = """
import os
from zerocopy.storage.residency import PageCache
from zerocopy.transport.http2.streams import DataStreams

real_read_in, real_send_turn = PageCache.read_in, DataStreams._send_turn
log = open(os.environ["TURNS_LOG"], "a", buffering=1)

is_cold = os.environ["IS_COLD"] == "True"

def resident(self, fd, offset, count):
    return 0 if is_cold else count

def read_in(self, fd, offset, count, is_unwanted):
    real_read_in(self, fd, offset, count, is_unwanted)
    return count if is_cold else 0

async def send_turn(self, stream_id, body, budget, head=b""):
    if not head:
        log.write(f"{budget}\\n")
    await real_send_turn(self, stream_id, body, budget, head)

PageCache.resident, PageCache.read_in = resident, read_in
DataStreams._send_turn = send_turn
"""
"""Notes what each turn may send; has all bytes come from the disk, or none: the kernel of a test
machine may drop pages whenever it likes."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Closed days."""
    path = tmp_path_factory.mktemp("scheduler")
    write_series(path, "SMALL", 500)
    write_series(path, "MEDIUM", 100_000)
    seal(path, "MEDIUM")
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("is_cold", [True, False])
def test_answer_from_the_disk_gives_way_to_small_answers_of_the_other_listener(
    root: Path, tmp_path: Path, *, is_cold: bool
) -> None:
    """Some of its turns are cold ones, none of an answer from memory; either one is right."""
    (tmp_path / "sitecustomize.py").write_text(PRYING, encoding="utf-8")
    log = tmp_path / "scheduler"
    environ = {**BOTH_LISTENERS, "PYTHONPATH": str(tmp_path), "TURNS_LOG": str(log)}
    environ["IS_COLD"] = str(is_cold)
    with (
        RunningServer(root, **environ) as server,
        H2Client(server) as streaming,
        Client(server) as asking,
    ):
        stream_id = streaming.request(MEDIUM)
        stream = streaming.streams[stream_id]
        while not stream.is_over:
            asking.send(request_of(SMALL))
            taken = len(stream.content)
            streaming.pump(lambda: stream.is_over or len(stream.content) > taken, "more")  # noqa: B023
            assert asking.answer().status == 200
        assert bytes(stream.content) == body_of(root, "MEDIUM", ["time", "price"])
    budgets = {int(line) for line in log.read_text("ascii").split()}
    assert (COLD_TURN_BYTES in budgets) == is_cold

"""Lines on their way to a descriptor: in order, whole, and never waited for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from zerocopy.observe.log_writer import WRITE_BYTES_MAX, LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable

PIPE_BYTES = 65_536


def numbered(count: int) -> list[bytes]:
    """Lines of 200 bytes."""
    return [b"%0199d\n" % number for number in range(count)]


def test_lines_come_in_order_and_whole() -> None:
    """What is put before the end is written before the end."""
    ours, theirs = os.pipe()
    writer = LineWriter(theirs, 1_000)
    for line in numbered(100):
        writer.put(line)
    writer.close()
    assert os.read(ours, PIPE_BYTES) == b"".join(numbered(100))
    assert writer.dropped == 0


def test_lines_are_written_together_but_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write(2) holds whole lines, at most PIPE_BUF bytes: those of others come between."""
    writes: list[bytes] = []

    def write(_fd: int, data: memoryview) -> int:
        writes.append(bytes(data))
        return len(data)

    monkeypatch.setattr(os, "write", write)
    writer = LineWriter(2, 1_000)
    for line in numbered(100):
        writer.put(line)
    writer.close()
    assert b"".join(writes) == b"".join(numbered(100))
    assert all(data.endswith(b"\n") and len(data) <= WRITE_BYTES_MAX for data in writes)
    assert len(writes) < 10


@pytest.mark.parametrize("blocking", [True, False])
def test_reader_that_comes_late_gets_what_waited(*, blocking: bool) -> None:
    """Above the bound lines are dropped and counted; the others are not lost, on either pipe."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, blocking)
    writer = LineWriter(theirs, 10)
    lines = numbered(1_000)
    for line in lines:
        writer.put(line)
    assert not writer.has_room
    assert writer.dropped > 0
    received = b""
    expected = len(lines) - writer.dropped
    while received.count(b"\n") < expected:
        received += os.read(ours, PIPE_BYTES)
    writer.close()
    assert set(received.splitlines(keepends=True)) <= set(lines)
    assert received.count(b"\n") == expected


def gone() -> int:
    """A pipe without a reader."""
    ours, theirs = os.pipe()
    os.close(ours)
    return theirs


@pytest.mark.parametrize(
    "descriptor",
    [gone, lambda: os.open("/dev/full", os.O_WRONLY)],
    ids=["no reader", "no room"],
)
def test_lines_that_cannot_be_written_are_counted(descriptor: Callable[[], int]) -> None:
    """A reader that is gone and a full disk are no error of whoever logs."""
    writer = LineWriter(descriptor(), 100)
    for line in numbered(3):
        writer.put(line)
    writer.close()
    assert writer.dropped == 3

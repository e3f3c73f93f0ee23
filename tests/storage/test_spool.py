"""Computed bodies: exact bytes, a budget that holds, nothing left behind."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.storage.trees import open_descriptors
from zerocopy.core.errors import DataError, OverloadError
from zerocopy.storage.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

BOTH = pytest.mark.parametrize("in_memory", [True, False], ids=["memfd", "path"])


@BOTH
def test_a_body_is_what_was_written(tmp_path: Path, *, in_memory: bool) -> None:
    """By every way a transport reads it; no name in the directory, no descriptor left."""
    before = open_descriptors()
    spool = Spool(1 << 20, None if in_memory else str(tmp_path))
    body = spool.open()
    pieces = [random.Random(seed).randbytes(seed) for seed in (0, 1, 7, 5_000)]
    for piece in pieces:
        body.write(piece)
    whole = b"".join(pieces)
    assert body.nbytes == spool.nbytes == len(whole)
    assert body.ready(3, 100) == 100
    assert body.read(3, 100) == bytes(body.view(3, 100)) == whole[3:103]
    assert os.pread(body.fileno(), len(whole) + 1, 0) == whole
    assert os.listdir(tmp_path) == []
    del body
    assert spool.nbytes == 0
    assert open_descriptors() == before


def test_a_full_budget_is_refused_until_a_body_is_gone() -> None:
    """The bytes of all bodies count, to the byte."""
    spool = Spool(100)
    first, second = spool.open(), spool.open()
    first.write(bytes(60))
    second.write(bytes(40))
    with pytest.raises(OverloadError, match="no room"):
        second.write(b"x")
    assert spool.nbytes == 100
    del first
    second.write(bytes(60))


def test_a_directory_that_is_not_there_is_an_overload(tmp_path: Path) -> None:
    """The client may ask again; the operator reads the cause."""
    with pytest.raises(OverloadError) as raised:
        Spool(100, str(tmp_path / "none")).open()
    assert isinstance(raised.value.__cause__, FileNotFoundError)


def test_a_full_disk_is_an_overload_and_a_lost_descriptor_a_fault() -> None:
    """/dev/full stands for the disk."""
    body = Spool(100).open()
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), body.fileno())
    with pytest.raises(OverloadError):
        body.write(b"x")
    reader, writer = os.pipe()
    os.dup2(reader, body.fileno())
    os.close(reader)
    os.close(writer)
    with pytest.raises(DataError):
        body.read(0, 1)

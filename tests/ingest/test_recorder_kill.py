"""kill -9 of a recording process at random moments, with readers beside it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.ingest.memory import memory_directory
from tests.ingest.recording_process import (
    A_DAY,
    COLUMNS,
    DAYS,
    DTYPES,
    SERIES,
    columns_of,
    recorded,
)
from zerocopy.core.errors import NotFoundError
from zerocopy.core.layout import Dtypes
from zerocopy.core.query import Query
from zerocopy.core.settling import Settling
from zerocopy.formats.columns import represent
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.planner import Planner

TOTAL = A_DAY * len(DAYS) - 1_000
ALL = {name: column.astype(dtype) for (name, column), dtype in zip(
    columns_of(0, TOTAL).items(), ("<u4", *COLUMNS.values()), strict=True
)}  # fmt: skip
DEADLINE_S = 40
SLOW = (pytest.mark.slow, pytest.mark.timeout(1_800))


class Reader:
    """Asks the planner of the server, and holds each answer against what was recorded."""

    def __init__(self, root: str) -> None:
        self.files = OpenFiles(root, 64)
        self.planner = Planner(
            root=root,
            files=self.files,
            dtypes=Dtypes(DTYPES),
            settling=Settling(600, 7),
            days_max=100,
            segments_max=1_000,
            small_answer_bytes_max=1 << 30,
        )
        self.seen = 0

    def read(self) -> int:
        """All records there are: a prefix, aligned, and no fewer than before."""
        columns = ("time", "price", "id")
        try:
            planned = self.planner.plan(Query(*SERIES, 0, 2**32 - 1, columns), represent)
        except NotFoundError:
            assert not self.seen
            return 0
        assert planned.content is not None
        # The files of a day are made one after another, before it has a record.
        assert planned.skipped in {(), (DAYS[-(-self.seen // A_DAY) % len(DAYS)],)}
        _, _, body = planned.content.partition(b"\n")
        count = len(body) // 16
        at = 0
        for name in columns:
            part = np.frombuffer(body, ALL[name].dtype, count, at)
            assert np.array_equal(part, ALL[name][:count]), name
            at += part.nbytes
        assert count >= self.seen, "what was shown is never taken back"
        self.seen = count
        return count


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=SLOW)])
def test_no_record_is_lost_torn_or_twice_when_the_recorder_is_killed(
    seed: int, request: pytest.FixtureRequest
) -> None:
    """Each start mends what the killed one left, and goes on; readers see a prefix at any time."""
    is_slow = request.node.get_closest_marker("slow") is not None
    with memory_directory() as root:
        kill_and_read(root, random.Random(seed), 150 if is_slow else 4)


def kill_and_read(root: str, chance: random.Random, kills: int) -> None:
    """Start a recorder again and again; read as long as it runs."""
    os.makedirs(os.path.join(root, *SERIES))
    reader = Reader(root)
    for kill in range(kills + 1):
        command = [sys.executable, "-m", "tests.ingest.recording_process", root, str(TOTAL)]
        process = subprocess.Popen([*command, str(chance.random())])
        # Killed when so many rows are there, or somewhat later: by chance amid a write.
        left = TOTAL - recorded(root)
        enough = recorded(root) + chance.randrange(1, max(2, 2 * left // (kills - kill + 1)))
        deadline_s = time.monotonic() + DEADLINE_S
        try:
            while process.poll() is None and (kill == kills or recorded(root) < enough):
                reader.read()
                assert time.monotonic() < deadline_s, "the recorder stands still"
        finally:
            process.kill()
            process.wait()
        reader.read()
    assert process.returncode == 0
    assert reader.read() == TOTAL
    names = sorted(os.listdir(os.path.join(root, *SERIES)))
    assert len(names) == len(DAYS) * len(ALL), names

"""atheris, which follows the branches that its inputs take, looks for what the others missed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import requests

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60
HERE = os.path.dirname(__file__)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 120),
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None,
        reason="atheris is not installed: pip install '.[fuzz]', where it has a wheel",
    ),
]


def seeds_of(parser: str) -> list[bytes]:
    """Inputs to begin with."""
    if parser == "head":
        return [requests.mutated(Random(number))[:700] for number in range(50)]
    if parser == "query":
        return [target.partition(b"?")[2] for target in requests.TARGETS]
    return [b"time.31.01.25.bin", b"a.b.29.02.24.bin", b"HTTP://h/p?q"]


@pytest.mark.parametrize("parser", ["head", "query", "names"])
def test_no_input_that_takes_a_new_branch_has_another_outcome(tmp_path: Path, parser: str) -> None:
    """A minute for each parser; an undocumented exception or a failed check ends the process."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds_of(parser)):
        (corpus / str(number)).write_bytes(seed)
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, "guided.py"), parser, str(SECONDS), str(corpus)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.path.join(HERE, "..", "..")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS + 90,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:]
    runs = re.search(r"Done (\d+) runs", done.stdout)
    assert runs
    assert int(runs[1]) > 1_000
    assert "no interesting inputs were found" not in done.stdout

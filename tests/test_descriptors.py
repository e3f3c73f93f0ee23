"""What tests may say of the descriptors of their own process."""

from __future__ import annotations

import doctest
import gc
import os
from pathlib import Path

from tests import descriptors
from tests.descriptors import held, held_files

REPOSITORY = Path(__file__).resolve().parents[1]
LISTED = ('os.listdir("/proc/self/fd")', "open_descriptors(os.getpid())")
MAY_LIST = {
    "tests/descriptors.py": "gives sets",
    "tests/forkserver.py": "closes them all",
    "tests/transport/senders.py": "looks for one event loop's own",
}


class Circle:
    """Holds a file open until the collector comes, as what earlier tests made may do."""

    def __init__(self) -> None:
        self.fd = os.open(os.devnull, os.O_RDONLY)
        self.itself = self

    def __del__(self) -> None:
        os.close(self.fd)


def test_what_is_collected_amid_a_test_is_no_difference() -> None:
    """A number would be smaller than before: no leak makes a test fail, and a leak could pass."""
    gc.collect()
    gc.disable()
    try:
        Circle()
        before, before_files = held(), held_files()
    finally:
        gc.enable()
    gc.collect()
    assert held() < before
    assert held_files() < before_files


def test_no_test_counts_the_descriptors_of_its_process() -> None:
    """Who lists them is named here, with the reason."""
    files = sorted((REPOSITORY / "tests").rglob("*.py"))
    listing = {
        str(path.relative_to(REPOSITORY))
        for path in files
        if any(each in path.read_text() for each in LISTED)
    }
    assert listing - {"tests/test_descriptors.py"} == set(MAY_LIST)


def test_examples_are_true() -> None:
    """Those of the docstrings."""
    assert doctest.testmod(descriptors).failed == 0

"""What every test of simulated worlds begins with."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def nothing_left_behind() -> None:
    """Free what earlier tests left in circles.

    A descriptor in it would be closed amid a run, when `os.close` is that of the simulated kernel.
    """
    gc.collect()

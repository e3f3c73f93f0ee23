"""Windows: how many files the answers that are being sent may have open for theirs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerocopy.core.window import WINDOWS_OPEN, fair_slices


@given(counts=st.lists(st.integers(1, 10_000), min_size=1, max_size=50), files_max=st.integers(1))
def test_windows_of_all_answers_fit_the_open_files(counts: list[int], files_max: int) -> None:
    """Together they open no more than there may be, but that each has a slice at least."""
    held = sum(counts)
    shares = [fair_slices(count, held, files_max) for count in counts]
    assert min(shares) >= 1
    opened = sum(WINDOWS_OPEN * share for share in shares if share > 1)
    assert opened <= files_max


def test_one_answer_alone_takes_a_quarter_of_the_open_files() -> None:
    """With the default of 512 that is more than the 64 slices a window has at most."""
    assert fair_slices(4_000, 4_000, 512) == 128
    assert fair_slices(4_000, 40_000, 512) == 12
    assert fair_slices(1, 40_000, 512) == 1

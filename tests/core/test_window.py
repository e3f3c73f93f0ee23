"""Windows: what belongs to one, and how many files all that are being sent may have open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.core.plan import Segment, in_memory
from zerocopy.core.window import (
    GATHERED_BYTES_MAX,
    GATHERED_BYTES_TOTAL,
    GATHERED_SLICES_MAX,
    TINY_BYTES,
    TINY_RUN,
    WINDOWS_OPEN,
    Window,
    cut_tiny,
    cut_window,
    fair_gathered_bytes,
    fair_slices,
    is_tiny_run,
    place_after,
)

SOURCE = in_memory(b"x").source


def of(*counts: int) -> list[Segment]:
    """Segments of such sizes."""
    return [Segment(SOURCE, 0, count) for count in counts]


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


@given(
    counts=st.lists(st.sampled_from((1, 50, TINY_BYTES, TINY_BYTES + 1, 90_000)), min_size=1),
    bytes_max=st.one_of(st.integers(5_000, 20_000), st.integers(20_000, 400_000)),
    count_max=st.integers(1, 300),
)
def test_windows_in_a_row_are_the_whole_answer(
    counts: list[int], bytes_max: int, count_max: int
) -> None:
    """Each byte once and in order; what is gathered is tiny and bounded, what is not is no run."""
    segments, place, found = of(*counts), (0, 0), []
    while place[0] < len(segments):
        if is_tiny_run(segments, place[0]):
            window = cut_tiny(segments, place, bytes_max)
            nbytes = sum(piece.count for piece in window.slices)
            assert window.gathers
            assert nbytes <= max(TINY_BYTES, bytes_max)
            assert len(window.slices) <= GATHERED_SLICES_MAX
            assert all(piece.count <= TINY_BYTES for piece in window.slices)
        else:
            window = cut_window(segments, place, bytes_max, count_max)
            nbytes = sum(piece.count for piece in window.slices)
            assert not window.gathers
            assert nbytes <= bytes_max
            assert not any(is_tiny_run(segments, index) for index in range(*_inside(window)))
            assert len(window.slices) <= count_max
        assert nbytes > 0
        assert place_after(segments, place, nbytes) == window.stop
        found.append((place, window.stop))
        place = window.stop
    assert [start for start, _ in found[1:]] == [stop for _, stop in found[:-1]]


def test_gathered_bytes_of_all_answers_are_bounded() -> None:
    """256 KiB each while they are few, then their share of 64 MiB."""
    assert fair_gathered_bytes(0) == fair_gathered_bytes(256) == GATHERED_BYTES_MAX
    for answers in (257, 1_000, 10_000):
        assert answers * fair_gathered_bytes(answers) <= GATHERED_BYTES_TOTAL


def _inside(window: Window) -> tuple[int, int]:
    """The segments that a window has the beginning of, without the one it begins in."""
    return window.start[0] + 1, window.stop[0]


@pytest.mark.parametrize(
    ("counts", "is_run"),
    [
        ([TINY_BYTES] * TINY_RUN, True),
        ([TINY_BYTES] * (TINY_RUN - 1), False),
        ([*[1] * (TINY_RUN - 1), TINY_BYTES + 1], False),
        ([], False),
    ],
)
def test_run_is_so_many_tiny_segments(counts: list[int], *, is_run: bool) -> None:
    """All of them at most TINY_BYTES, and TINY_RUN of them."""
    assert is_tiny_run(of(*counts), 0) is is_run


def test_place_after_the_last_byte_is_behind_the_last_segment() -> None:
    """Ends of segments belong to the next one."""
    segments = of(3, 1, 5)
    places = [place_after(segments, (0, 0), count) for count in range(10)]
    assert places == [
        (0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (3, 0)
    ]  # fmt: skip
    with pytest.raises(AssertionError):
        place_after(segments, (2, 4), 2)

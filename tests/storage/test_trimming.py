"""What goes first from a directory that is bounded in bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from zerocopy.storage.trimming import files_below, least_recent

if TYPE_CHECKING:
    from pathlib import Path

FILES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 100)), max_size=30)


@given(FILES, st.integers(-5, 3_000))
def test_the_oldest_go_and_no_more_than_has_to(files: list[tuple[int, int]], excess: int) -> None:
    """As many from the oldest on as give the excess; all of them where they do not."""
    named = [(f"{index:02}", used, size) for index, (used, size) in enumerate(files)]
    found = least_recent(named, excess)
    used_of = {path: used for path, used, _ in named}
    assert [used_of[path] for path, _ in found] == sorted(used_of[path] for path, _ in found)
    left = [used for path, used, _ in named if path not in dict(found)]
    assert not found or not left or max(used_of[path] for path, _ in found) <= min(left)
    sizes = [size for _, size in found]
    if excess <= 0:
        assert not found
    elif sum(size for _, size in files) >= excess:
        assert sum(sizes) >= excess > sum(sizes) - sizes[-1]
    else:
        assert len(found) == len(files)


def test_files_lie_three_directories_deep(tmp_path: Path) -> None:
    """Neither links nor what is above or below counts; a directory that is missing has none."""
    series = tmp_path / "e" / "s" / "t"
    (series / "deeper").mkdir(parents=True)
    for path in (series / "a", series / "deeper" / "b", tmp_path / "e" / "c"):
        path.write_bytes(b"x")
    (series / "link").symlink_to(series / "a")
    (tmp_path / "linked").symlink_to(tmp_path / "e")
    assert [os.path.relpath(entry.path, tmp_path) for entry, _ in files_below(str(tmp_path))] == [
        "e/s/t/a"
    ]
    assert not list(files_below(str(tmp_path / "none")))

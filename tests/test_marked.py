"""docs/marked.py: what scripts write into pages, and nothing else of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from docs.marked import Block, run

if TYPE_CHECKING:
    from pathlib import Path


def test_a_block_is_checked_then_written_and_the_page_around_it_stays(tmp_path: Path) -> None:
    """--check writes nothing."""
    block = Block(tmp_path / "page.md", "numbers")
    old = f"# Page\n{block.begin}\nold\n{block.end}\nThe end.\n"
    block.page.write_text(old, "utf-8")
    assert run(block, "new", "numbers", ["--check"]) == 1
    assert block.page.read_text("utf-8") == old
    assert run(block, "new", "numbers", []) == 0
    assert block.page.read_text("utf-8") == old.replace("old", "new")
    assert run(block, "new", "numbers", ["--check"]) == 0


def test_a_page_without_its_comments_is_refused(tmp_path: Path) -> None:
    """There is no place for the block."""
    block = Block(tmp_path / "page.md", "numbers")
    for page in ("# Page\n", block.begin, block.end):
        with pytest.raises(ValueError, match=r"page\.md lacks"):
            block.replaced(page, "new")

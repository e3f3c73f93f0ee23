# ruff: noqa: INP001 - for the scripts beside the documents, which are not a package
"""A block of a page that a script writes, between two comments of one name."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Block(NamedTuple):
    """The block `name` of the file `page`."""

    page: Path
    name: str

    @property
    def begin(self) -> str:
        """The comment before it."""
        return f"<!-- {self.name}: begin -->"

    @property
    def end(self) -> str:
        """The comment behind it."""
        return f"<!-- {self.name}: end -->"

    def replaced(self, page: str, text: str) -> str:
        """Return the text of a page with `text` between the two comments.

        Raises:
            ValueError: a comment is missing.
        """
        before, begin, rest = page.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not (begin and end):
            raise ValueError(f"{self.page.name} lacks {self.begin} or {self.end}")
        return f"{before}{begin}\n{text}\n{end}{after}"

    def write(self, text: str, *, is_check: bool) -> bool:
        """Write the block unless `is_check`; whether it was already so."""
        page = self.page.read_text("utf-8")
        wanted = self.replaced(page, text)
        if page != wanted and not is_check:
            self.page.write_text(wanted, "utf-8")
        return page == wanted


def check_asked(description: str, arguments: Sequence[str] | None) -> bool:
    """Read the arguments of a script: whether --check is among them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is old")
    return parser.parse_args(arguments).check


def run(block: Block, text: str, script: str, arguments: Sequence[str] | None) -> int:
    """Rewrite or check `block` as the arguments of `script` ask; the exit code."""
    is_check = check_asked(f"Write a block of {block.page.name}.", arguments)
    if block.write(text, is_check=is_check) or not is_check:
        return 0
    print(f"{block.page.name} is old; run python -m docs.{script}", file=sys.stderr)  # noqa: T201
    return 1

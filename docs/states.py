# ruff: noqa: INP001 - a script beside the documents, not a package
"""Write the states of an HTTP/1.1 connection into ARCHITECTURE.md, from the table of the code.

    python3 docs/states.py            rewrite the block between the two marks
    python3 docs/states.py --check    exit 1 if the block is old

It needs the package to be importable: run it with the interpreter of .venv, from the repository.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zerocopy.transport.http1.state import MEANINGS, MOVES

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).resolve().parent.parent / "ARCHITECTURE.md"
BEGIN, END = "<!-- states: begin -->", "<!-- states: end -->"


def table() -> str:
    """What each state means, and which may come next; each may lead to CLOSED."""
    lines = ["| state | meaning | leads to |", "|---|---|---|"]
    for state, meaning in MEANINGS.items():
        after = ", ".join(b.name for a, b in MOVES if a is state)
        lines.append(f"| {state.name} | {meaning} | {after} |")
    return "\n".join(lines)


def replaced(page: str) -> str:
    """Return `page` with the tables between the two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        message = f"{PAGE.name} lacks {BEGIN} or {END}"
        raise ValueError(message)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    parser = argparse.ArgumentParser(description="Write the states into ARCHITECTURE.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is old")
    is_check = parser.parse_args(arguments).check
    page = PAGE.read_text("utf-8")
    wanted = replaced(page)
    if is_check and page != wanted:
        print(f"{PAGE.name}: the states are old; run python docs/states.py", file=sys.stderr)  # noqa: T201
        return 1
    if page != wanted:
        PAGE.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

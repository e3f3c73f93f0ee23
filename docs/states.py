# ruff: noqa: INP001 - a script beside the documents, not a package
"""Write the states of an HTTP/1.1 connection into ARCHITECTURE.md, from the table of the code.

    python -m docs.states            rewrite the block between the two marks
    python -m docs.states --check    exit 1 if the block is old

Run it with the interpreter of .venv, from the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docs.marked import Block, run
from zerocopy.transport.http1.state import MEANINGS, MOVES

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = Block(Path(__file__).resolve().parent.parent / "ARCHITECTURE.md", "states")


def table() -> str:
    """What each state means, and which may come next; each may lead to CLOSED."""
    lines = ["| state | meaning | leads to |", "|---|---|---|"]
    for state, meaning in MEANINGS.items():
        after = ", ".join(b.name for a, b in MOVES if a is state)
        lines.append(f"| {state.name} | {meaning} | {after} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    return run(BLOCK, table(), "states", arguments)


if __name__ == "__main__":
    sys.exit(main())

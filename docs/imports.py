# ruff: noqa: INP001 - a script beside the documents, not a package
"""Draw in ARCHITECTURE.md which folders of zerocopy/ import which; every arrow points down.

    python -m docs.imports            rewrite the block between the two marks
    python -m docs.imports --check    exit 1 if the block is old or an arrow would point up

Every import counts, in functions and under TYPE_CHECKING too. `LAYERS` is the only thing to edit:
give a new folder its place there. A folder that is not named belongs to the one above it.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from docs.marked import Block, check_asked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = "zerocopy"
PAGE = "ARCHITECTURE.md"
NAME = "imports"

LAYERS = (
    "commands",
    "supervise",
    (
        "service > service/live | ingest | client | "
        "transport/tls > transport/http2 > transport/http1 > transport/websocket > transport"
    ),
    "access | formats | storage/store > storage/live > storage/symbols > storage | observe",
    "config",
    "core/http > core",
)
"""From the top. `|`: neither imports the other. `>`: the left may import the right."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a folder stands: its layer, its group in the layer, its step in the group."""

    layer: int
    group: int
    step: int

    def may_import(self, other: Place) -> bool:
        """Whether an arrow from here to `other` points down."""
        if (self.layer, self.group) == (other.layer, other.group):
            return self.step < other.step
        return self.layer < other.layer


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement from one folder to another."""

    path: str
    line: int
    source: str
    target: str

    def __str__(self) -> str:
        """Return the sentence that --check prints."""
        where = f"{self.path}:{self.line}"
        return f"{where}: {self.source} may not import {self.target}; see LAYERS in docs/imports.py"


def places(layers: Sequence[str] = LAYERS) -> dict[str, Place]:
    """Return the place of each folder, from top to bottom."""
    return {
        folder.strip(): Place(layer, group, step)
        for layer, line in enumerate(layers)
        for group, chain in enumerate(line.split("|"))
        for step, folder in enumerate(chain.split(">"))
    }


def folder_of(module: str, known: Mapping[str, Place]) -> str | None:
    """Return the folder of `zerocopy.a.b.c`, None for the package itself.

    Raises:
        KeyError: no folder on the way has a place.
    """
    parts = module.split(".")[1:]
    if parts in (["__main__"], ["cli"], ["streams"]):
        return "commands"
    for length in range(len(parts), 0, -1):
        folder = "/".join(parts[:length])
        if folder in known:
            return folder
    if parts:
        raise KeyError(parts[0])
    return None


def modules_of(package: Path) -> dict[str, Path]:
    """Return every module below `package` by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.AST, modules: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield line and name of every module of the package that `tree` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` imports the module, any other name its module.
            names = [
                full if (full := f"{node.module}.{alias.name}") in modules else node.module
                for alias in node.names
            ]
        else:
            continue
        yield from ((node.lineno, name) for name in dict.fromkeys(names) if name in modules)


def imports_of(package: Path, known: Mapping[str, Place]) -> list[Import]:
    """Return every import between two folders of `package`."""
    modules = modules_of(package)
    found = []
    for module, path in modules.items():
        source = folder_of(module, known)
        tree = ast.parse(path.read_text("utf-8"), str(path))
        for line, name in imported(tree, modules):
            target = folder_of(name, known)
            if source is not None and target is not None and source != target:
                where = str(path.relative_to(package.parent))
                found.append(Import(where, line, source, target))
    return found


def rising(imports: Sequence[Import], known: Mapping[str, Place]) -> list[Import]:
    """Return the imports whose arrows would not point down."""
    return [found for found in imports if not known[found.source].may_import(known[found.target])]


def draw(imports: Sequence[Import], known: Mapping[str, Place]) -> str:
    """Return the drawing: a row for each folder, a column of arrows for each that imports.

    An empty row parts two layers.
    """
    arrows = {(found.source, found.target) for found in imports}
    taking_part = {folder for arrow in arrows for folder in arrow}
    rows = [folder for folder in known if folder in taking_part]
    columns = [folder for folder in rows if any(source == folder for source, _ in arrows)]
    width = max(map(len, rows), default=0) + 2
    reach = {
        folder: [rows.index(target) for source, target in arrows if source == folder]
        + [rows.index(folder)]
        for folder in columns
    }
    lines: list[str] = []
    for index, row in enumerate(rows):
        if index and known[row].layer != known[rows[index - 1]].layer:
            lines.append("")
        marks = []
        for column, at in reach.items():
            if row == column:
                marks.append("●")
            elif (column, row) in arrows:
                marks.append("▼" if index > rows.index(column) else "▲")
            else:
                marks.append("│" if min(at) < index < max(at) else " ")
        lines.append(row.ljust(width) + "  ".join(marks))
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: Sequence[str] | None = None, repository: Path = REPOSITORY) -> int:
    """Rewrite or check the page; the exit code."""
    is_check = check_asked("Draw the imports in ARCHITECTURE.md.", arguments)
    block = Block(repository / PAGE, NAME)
    known = places()
    try:
        imports = imports_of(repository / PACKAGE, known)
        is_drawn = block.write(f"```\n{draw(imports, known)}\n```", is_check=is_check)
    except KeyError as error:
        print(f"{PACKAGE}/{error.args[0]} has no place in LAYERS", file=sys.stderr)  # noqa: T201
        return 1
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    wrong = [str(found) for found in rising(imports, known)]
    if is_check and not is_drawn:
        wrong.append(f"{PAGE}: the drawing is old; run python -m docs.imports")
    for sentence in wrong:
        print(sentence, file=sys.stderr)  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

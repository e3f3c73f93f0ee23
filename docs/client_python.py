# ruff: noqa: INP001 - a script beside the documents, not a package
"""Write the reference of the Python client into client-python.md, from its docstrings.

    python -m docs.client_python            rewrite the block between the two marks
    python -m docs.client_python --check    exit 1 if the block is old

Run it with the interpreter of .venv, from the repository.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs.marked import Block, run
from zerocopy import client
from zerocopy.client import errors, times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK = Block(Path(__file__).resolve().parent / "client-python.md", "reference")

CLASSES = (client.Client, client.AsyncClient, client.Frame, client.Live)
"""In the order of the page; the methods of AsyncClient are those of Client."""

SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:", "Example:")
_ENTRY = re.compile(r"(\w[\w, ]*): (.*)")


def reference() -> str:
    """All classes, then times and errors."""
    parts = [part for kind in CLASSES for part in of_class(kind)]
    told = inspect.getdoc(times.seconds) or ""
    parts += ["### Times", *rendered(told.partition("\n>>>")[0])]
    tree = (errors.__doc__ or "").split("\n\n")
    parts += ["### Errors", tree[0], f"```\n{inspect.cleandoc(tree[1])}\n```", *tree[2:]]
    return "\n\n".join(part.strip("\n") for part in parts)


def of_class(kind: type) -> Iterator[str]:
    """A class with its public methods and properties."""
    yield f"### {kind.__name__}"
    if issubclass(kind, (client.Client, client.AsyncClient)):
        yield signature(kind.__name__, kind.__init__)
    yield from rendered(inspect.getdoc(kind) or "")
    for name, member in vars(kind).items():
        if name.startswith("_") or kind is client.AsyncClient:
            continue
        if inspect.isfunction(member):
            yield f"#### {name}"
            yield signature(name, member)
            yield from rendered(inspect.getdoc(member) or "")
        elif isinstance(member, property):
            yield f"#### .{name}"
            yield from rendered(inspect.getdoc(member) or "")


def signature(name: str, function: Any) -> str:
    """How a function is called, an argument a line where they are many."""
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    arguments, _, returned = re.sub(r"^\(self(, )?", "(", text).partition(" -> ")
    returned = "" if returned == "None" else returned
    line = f"{name}{arguments}" + (f" -> {returned}" if returned else "")
    if len(line) > 90:  # noqa: PLR2004 - characters that a page shows
        inner = re.sub(r", (?=\w+[:=]|\*)", ",\n    ", arguments[1:-1])
        line = f"{name}(\n    {inner},\n)" + (f" -> {returned}" if returned else "")
    return f"```python\n{line}\n```"


def rendered(docstring: str) -> Iterator[str]:
    """The paragraphs of a docstring; its sections as lists and code."""
    section, lines = "", list[str]()
    for line in [*docstring.splitlines(), "Raises:"]:
        if line in SECTIONS:
            yield from _section(section, lines)
            section, lines = line, []
        else:
            lines.append(line)


def _section(name: str, lines: Sequence[str]) -> Iterator[str]:
    text = textwrap.dedent("\n".join(lines)).strip("\n")
    if not text:
        return
    if not name:
        yield text
    elif name == "Example:":
        yield f"```python\n{text}\n```"
    else:
        entries = re.sub(r"\n\s+", " ", text).splitlines()
        items = [
            f"- {_names(found[1])}: {found[2]}" if (found := _ENTRY.match(entry)) else f"- {entry}"
            for entry in entries
        ]
        yield f"{name.rstrip(':')}:\n\n" + "\n".join(items)


def _names(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    return run(BLOCK, f"\n{reference()}\n", "client_python", arguments)


if __name__ == "__main__":
    sys.exit(main())

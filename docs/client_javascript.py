# ruff: noqa: INP001 - a script beside the documents, not a package
"""Write the reference of the JavaScript client into its page, from the comments of its types.

    python -m docs.client_javascript            rewrite the block between the two marks
    python -m docs.client_javascript --check    exit 1 if the block is old

The source is zerocopy/web/zerocopy.d.ts, which editors show as well. Only what it is written in is
understood: declarations at the margin, members indented by two, each behind its comment.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, NamedTuple

from docs.marked import Block, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "zerocopy" / "web" / "zerocopy.d.ts"
BLOCK = Block(REPOSITORY / "docs" / "client-javascript.md", "reference")
_ERRORS = ("ZerocopyError", "ConnectionFailed")

_NAME = re.compile(r"(?:class|interface|type) (\w+)")


class Entry(NamedTuple):
    """A declaration or a member: its text in TypeScript, what is said of it, its members."""

    head: str
    comment: str
    members: tuple[Entry, ...] = ()

    @property
    def name(self) -> str:
        """`Client`."""
        found = _NAME.search(self.head)
        assert found is not None, self.head
        return found[1]


def entries(lines: Iterator[str]) -> Iterator[Entry]:
    """The declarations among `lines`, or the members up to the brace that ends a declaration."""
    comment = ""
    for line in lines:
        text = line.strip()
        if text == "}":
            return
        if text.startswith("/**"):
            comment = _comment(text, lines)
        elif text.endswith("{") and _NAME.search(text) and " type " not in text:
            yield Entry(text.removesuffix(" {"), comment, tuple(entries(lines)))
            comment = ""
        elif text:
            code = [line]
            while not _is_whole("".join(code)):
                code.append(next(lines))
            yield Entry(dedent("".join(code)).strip(), comment)
            comment = ""


def _is_whole(code: str) -> bool:
    opened = sum(map(code.count, "([{")) - sum(map(code.count, ")]}"))
    return not opened and code.rstrip().endswith((";", "{}"))


def _comment(first: str, lines: Iterator[str]) -> str:
    """What a comment says, without its asterisks."""
    told = [first.removeprefix("/**").lstrip()]
    while not told[-1].endswith("*/"):
        told.append(re.sub(r"^ *\*(?!/) ?", "", next(lines).rstrip()))
    return "\n".join(line.removesuffix("*/").rstrip() for line in told).strip()


def reference(source: str) -> str:
    """The block of the page: classes, errors, then the types that they name."""
    classes: list[str] = []
    errors: list[Entry] = []
    types: list[str] = []
    for found in entries(iter(source.splitlines(keepends=True))):
        entry = found._replace(head=found.head.removeprefix("export ").removesuffix(" {}"))
        if entry.head.endswith(tuple(f"extends {name}" for name in _ERRORS)):
            errors.append(entry)
        elif entry.head.startswith("class"):
            classes += _of_class(entry)
        else:
            types += [f"### {entry.name}", *_said(entry.comment)]
            types.append(_fields(entry.members) if entry.members else _code(entry.head))
    listed = "\n".join(_error_rows(errors))
    return "\n\n".join([*classes, "### Errors below ZerocopyError", listed, *types])


def _of_class(entry: Entry) -> Iterator[str]:
    yield f"### {entry.name}"
    yield from _said(entry.comment)
    told = [member for member in entry.members if member.comment]
    if fields := [member for member in told if "(" not in member.head]:
        yield _fields(fields)
    for member in told:
        if "(" in member.head:
            called = re.split(r"[(<]", member.head)[0]
            yield f"#### {called.replace('constructor', f'new {entry.name}')}"
            yield _code(member.head.replace("constructor", f"new {entry.name}"))
            yield from _said(member.comment)


def _fields(members: Sequence[Entry], indent: str = "") -> str:
    rows = []
    for member in members:
        told = f": {_joined(member.comment)}" if member.comment else ""
        rows.append(f"{indent}- `{_joined(member.head)}`{told}")
    return "\n".join(rows)


def _error_rows(errors: Sequence[Entry]) -> Iterator[str]:
    for entry in errors:
        base = entry.head.rpartition(" ")[2]
        kind = "" if base == _ERRORS[0] else f", a `{base}`"
        yield f"- `{entry.name}`{kind}: {_joined(entry.comment)}"
        if entry.members:
            yield _fields(entry.members, "  ")


def _joined(text: str) -> str:
    """In one line, as a list has it."""
    return " ".join(_linked(text).removeprefix("readonly ").rstrip(";").split())


def _said(comment: str) -> Iterator[str]:
    """The parts of a comment: its text, then what its tags say."""
    text, *tags = re.split(r"^@", comment, flags=re.MULTILINE)
    if text.strip():
        yield _linked(text.strip())
    for tag in tags:
        kind, told = re.split(r"\s", tag, maxsplit=1)
        if kind == "example":
            yield _code(told, "js")
        elif kind == "param":
            name, _, meaning = told.partition(" - ")
            yield f"- `{name}`: {_joined(meaning)}"
        elif kind == "throws":
            yield f"Throws {_joined(told)}"


def _linked(text: str) -> str:
    return re.sub(r"\{@link (?:\w+\.)?(\w+)\}", r"`\1`", text)


def _code(text: str, language: str = "ts") -> str:
    return f"```{language}\n{text.strip()}\n```"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    text = reference(SOURCE.read_text("utf-8"))
    return run(BLOCK, f"\n{text}\n", "client_javascript", arguments)


if __name__ == "__main__":
    sys.exit(main())

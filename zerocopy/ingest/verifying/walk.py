"""Down from the root: which names a query can reach, and what else lies there.

Owns names, links, kinds and permissions of what is in the tree. It must never read a record.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.layout import is_name, parse_file_name
from zerocopy.ingest.daywriter import PREFIX
from zerocopy.ingest.verifying.finding import Finding, found

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEVELS = ("exchange", "symbol", "type")
_READ_BITS = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_ODD_BITS = 0o111 | stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


class File(NamedTuple):
    """A day file as it was listed."""

    size: int
    changed_s: float
    mode: int


Days = dict[int, dict[str, File]]
"""The files of each day by column."""


def list_series(root: str) -> Iterator[Finding | tuple[str, str, str]]:
    """Every series below `root`, and what is wrong with the names down to them.

    Raises:
        OSError: the root cannot be read.
    """
    with os.scandir(root) as entries:
        listed = [*entries]
    yield from _descend(root, "", (), listed)


def _descend(
    root: str, path: str, above: tuple[str, ...], entries: list[os.DirEntry[str]]
) -> Iterator[Finding | tuple[str, str, str]]:
    level = _LEVELS[len(above)]
    yield from _case_collisions(path, [entry.name for entry in entries])
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue  # hidden, as is `.import` below the root: no query asks for it
        below = os.path.join(path, entry.name)
        if entry.is_symlink():
            yield found(below, "link", "is a symbolic link, which is not followed")
        elif not entry.is_dir(follow_symlinks=False):
            yield found(below, "unreachable", f"is no directory, and so no {level}")
        elif not is_name(entry.name):
            yield found(below, "unreachable", f"cannot be the name of a {level}")
        else:
            yield from _directory(below, entry.stat(follow_symlinks=False).st_mode)
            names = (*above, entry.name)
            if len(names) == len(_LEVELS):
                yield names[0], names[1], names[2]
                continue
            try:
                with os.scandir(os.path.join(root, below)) as inner:
                    listed = [*inner]
            except OSError as error:
                yield found(below, "unreadable", f"cannot be read: {error.strerror}")
                continue
            yield from _descend(root, below, names, listed)


def list_days(root: str, series: str) -> tuple[Days, list[Finding]]:
    """The day files of a series, and what is wrong with the names in its directory.

    Raises:
        OSError: it cannot be read.
    """
    days: Days = {}
    findings: list[Finding] = []
    names = []
    with os.scandir(os.path.join(root, series)) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = os.path.join(series, entry.name)
            parsed = parse_file_name(entry.name)
            if entry.name.startswith("."):
                findings += _hidden(path, entry.name)
                continue
            names.append(entry.name)
            if entry.is_symlink():
                findings.append(found(path, "link", "is a symbolic link, which is not followed"))
            elif parsed is None:
                findings.append(found(path, "unreachable", _why_unreachable(entry)))
            elif not entry.is_file(follow_symlinks=False):
                findings.append(found(path, "unreachable", "is no regular file"))
            else:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # replaced or removed just now
                column, day = parsed
                changed_s = max(status.st_mtime, status.st_ctime)
                file = File(status.st_size, changed_s, stat.S_IMODE(status.st_mode))
                days.setdefault(day, {})[column] = file
    findings += _case_collisions(series, names)
    return days, findings


def odd_permissions(series: str, names: dict[str, int]) -> Iterator[Finding]:
    """Files whose permissions are not those of the others; `names` are their modes by name."""
    if not names:
        return
    counts: dict[int, int] = defaultdict(int)
    for mode in names.values():
        counts[mode & _READ_BITS] += 1
    usual = max(counts, key=lambda bits: (counts[bits], bits))
    for name, mode in names.items():
        path = os.path.join(series, name)
        if mode & stat.S_IWOTH:
            yield found(
                path, "permissions", f"anybody may write it ({mode:04o})", mode=f"{mode:04o}"
            )
        elif mode & _ODD_BITS:
            yield found(path, "permissions", f"is executable ({mode:04o})", mode=f"{mode:04o}")
        elif usual & ~mode or not mode & stat.S_IRUSR:
            yield found(
                path,
                "permissions",
                f"fewer may read it than the other files of its series ({mode:04o})",
                mode=f"{mode:04o}",
            )


def _directory(path: str, mode: int) -> Iterator[Finding]:
    mode = stat.S_IMODE(mode)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield found(
            path, "permissions", f"anybody may write into it ({mode:04o})", mode=f"{mode:04o}"
        )


def _hidden(path: str, name: str) -> Iterator[Finding]:
    """Rests of an import or a repair; `.merged` is what an import remembers."""
    if name.startswith(PREFIX) and not name.endswith(".merged"):
        yield found(
            path, "leftover", "a run that was killed left it; the next one ends it", mends=True
        )
    elif name.endswith(".bin") or ".bin." in name:
        yield found(path, "unreachable", "is hidden: a copy that was broken off?")


def _why_unreachable(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "is a directory below a type"
    if not entry.name.endswith(".bin"):
        return "is no day file: column.DD.MM.YY.bin"
    return "names no column and day: column.DD.MM.YY.bin"


def _case_collisions(path: str, names: list[str]) -> Iterator[Finding]:
    """Names that are one on a file system without case, or for a reader in a hurry."""
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        same[name.casefold()].append(name)
    for group in same.values():
        if len(group) > 1:
            group.sort()
            yield found(
                os.path.join(path, group[0]),
                "case",
                f"differs from {', '.join(group[1:])} in case alone",
                others=group[1:],
            )

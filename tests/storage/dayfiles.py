"""Day files as a plan has them, made ready as the event loop and its threads do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.storage.trees import SERIES, path_of
from zerocopy.storage.dayfile import DayFile, OpenFiles

if TYPE_CHECKING:
    from zerocopy.storage.mapping import MappedFiles


def planned(files: OpenFiles, column: str = "c0", *, is_closed: bool = True) -> DayFile:
    """A day file that nobody has opened yet."""
    path = path_of(files.root, column)
    return DayFile(files, SERIES, os.path.basename(path), os.stat(path), is_closed=is_closed)


def fetched(files: OpenFiles, column: str = "c0", *, is_closed: bool = True) -> DayFile:
    """A day file as a transport has it when `ready` was not true."""
    day_file = planned(files, column, is_closed=is_closed)
    make_ready(files, day_file)
    assert day_file.ready(0, 1, mapped=True) == min(1, day_file.size)
    return day_file


def make_ready(files: OpenFiles, day_file: DayFile) -> None:
    """What a thread does of a window with this file."""
    files.keep(day_file, files.fetch(day_file, files.lend(day_file)))


def mapped_of(files: OpenFiles) -> MappedFiles:
    """The pool."""
    assert files.mapped is not None
    return files.mapped

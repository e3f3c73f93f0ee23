"""Getting data in: what exchanges and vendors publish becomes day files.

    sources → tables → recipe → convert → spill → daywriter
    (files)   (rows)   (which)  (records)  (by day)  (day files)

    lines → feed → recorders → recorder → recording/        what is live, into the files of its day
    day files → verifying/ → findings → repair → daywriter  whether a store is sound

Owns the way of a row from a file in any form to its record. It may import `core` and `config`, and
polars where that is used (extra `zerocopy[import]`). It must never know the server.

A file is read as a whole before any of its rows is written: one bad line leaves the file out. A day
is written as a whole, under hidden names, and appears by renames, `time` last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerocopy.ingest.recorder import Counts, Recorder, RecorderFullError

__all__ = ["Counts", "Recorder", "RecorderFullError"]


def __getattr__(name: str) -> object:
    """The recorder, imported when it is asked for: numpy takes 0.1 s."""
    if name in __all__:
        from zerocopy.ingest import recorder  # noqa: PLC0415

        return getattr(recorder, name)
    raise AttributeError(name)

"""The work of computed formats, with bounds that a test may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.service.computed import ComputedWork

if TYPE_CHECKING:
    from zerocopy.storage.dayfile import OpenFiles
    from zerocopy.storage.planner import Planner


def computed(
    planner: Planner,
    files: OpenFiles,
    *,
    records_max: int = 10_000_000,
    spool_bytes_max: int = 1 << 28,
    spool_path: str | None = None,
) -> ComputedWork:
    """What `[formats]` describes."""
    return ComputedWork(
        planner,
        files,
        records_max=records_max,
        spool_bytes_max=spool_bytes_max,
        spool_path=spool_path,
        small_answer_bytes_max=65_536,
    )

"""A bar for transfers that last, where somebody looks.

Owns when it is shown: in a terminal or a notebook, after `SHOW_AFTER_S`. rich draws it.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from zerocopy.client.sinks import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

Shown: TypeAlias = Progress | bool | None
"""None and True: a bar where somebody looks; False: none; a function: it is called instead."""

SHOW_AFTER_S = 1.0

DRAW_S = 0.05
"""Seconds between two changes of the bar; over TLS a gigabyte comes in 16,000 reads."""


@contextmanager
def showing(wanted: Shown, title: str) -> Iterator[Progress | None]:
    """What to call with the bytes that have come, and with all of them; None: nothing to call."""
    if callable(wanted):
        yield wanted
    elif wanted is False or not _is_watched():
        yield None
    else:
        bar = Bar(title)
        try:
            yield bar
        finally:
            bar.close()


class Bar:
    """Appears when a transfer has lasted `SHOW_AFTER_S`, and goes with its end."""

    __slots__ = ("_begun_s", "_drawn_s", "_progress", "_task", "_title")

    def __init__(self, title: str) -> None:
        self._title = title
        self._begun_s = self._drawn_s = time.monotonic()
        self._progress: Any = None
        self._task: Any = None

    def __call__(self, received: int, total: int | None) -> None:
        """Show it, if it is time."""
        now_s = time.monotonic()
        if self._progress is None:
            if now_s - self._begun_s < SHOW_AFTER_S:
                return
            self._open()
        elif received != total and now_s - self._drawn_s < DRAW_S:
            return
        self._drawn_s = now_s
        self._progress.update(self._task, completed=received, total=total)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _open(self) -> None:
        # Loaded for those who wait anyway.
        from rich import progress  # noqa: PLC0415
        from rich.console import Console  # noqa: PLC0415

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(self._title, total=None)
        self._progress.start()


def _is_watched() -> bool:
    """Whether standard error is a terminal, or this is a notebook."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())

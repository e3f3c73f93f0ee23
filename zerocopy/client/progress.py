"""A bar for transfers that last, where somebody looks, or a function of the user.

Owns when the bar is shown: in a terminal or a notebook, after `SHOW_AFTER_S`. rich draws it. Owns
how often it changes, or the function is called: each `PACE_S`, and at the end.
"""

from __future__ import annotations

import math
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

PACE_S = 0.05
"""Seconds between two changes of what is told; over TLS a gigabyte comes in 16,000 reads."""


@contextmanager
def showing(wanted: Shown, title: str) -> Iterator[Progress | None]:
    """What to call with the bytes that have come, and with all of them; None: nothing to call."""
    if callable(wanted):
        yield Paced(wanted)
    elif wanted is False or not _is_watched():
        yield None
    else:
        bar = Bar(title)
        try:
            yield bar
        finally:
            bar.close()


class Paced:
    """Calls a function now and then, and once with the whole."""

    __slots__ = ("_called_s", "_is_over", "_tell")

    def __init__(self, tell: Progress) -> None:
        self._tell = tell
        self._called_s = -math.inf
        self._is_over = False

    def __call__(self, received: int, total: int | None) -> None:
        """Call it, if it is time, or all has come."""
        if self._is_over and received == total:
            return  # the connection broke behind the last byte
        self._is_over = received == total
        now_s = time.monotonic()
        if self._is_over or now_s - self._called_s >= PACE_S:
            self._called_s = now_s
            self._tell(received, total)


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
        elif received != total and now_s - self._drawn_s < PACE_S:
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

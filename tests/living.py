"""Live streams over a small root, with bounds that a test may change."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from zerocopy.core.layout import Dtypes
from zerocopy.service.live.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from zerocopy.core.counters import Counters
    from zerocopy.storage.dayfile import OpenFiles
    from zerocopy.storage.live.follower import DayFollower


def live(
    files: OpenFiles,
    executor: Executor,
    counters: Counters,
    *,
    subscribers_max: int = 100,
    series_max: int = 10,
    message_bytes_max: int = 65_536,
    read_bytes_max: int = 4_096,
    heartbeat_s: float = 15.0,
    poll_ms: int = 10,
    dtypes: Dtypes | None = None,
    failures: list[Exception] | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    follower: DayFollower | None = None,
) -> Live:
    """What `[live]` describes; `failures` gets the errors that ended a stream."""
    return Live(
        root=files.root,
        files=files,
        dtypes=Dtypes({}) if dtypes is None else dtypes,
        executor=executor,
        counters=counters,
        subscribers_max=subscribers_max,
        series_max=series_max,
        message_bytes_max=message_bytes_max,
        read_bytes_max=read_bytes_max,
        heartbeat_s=heartbeat_s,
        poll_ms=poll_ms,
        on_refused=lambda _sentence: None,
        on_failed=([] if failures is None else failures).append,
        clock_ns=clock_ns,
        follower=follower,
    )


def end(live: Live) -> None:
    """Give back what a worker's process gives back by its end: watches, and files that are open."""
    if live._poll_timer is not None:
        live._poll_timer.cancel()
    if live._watcher is not None and live._watcher._inotify is not None:
        asyncio.get_running_loop().remove_reader(live._watcher._inotify.fileno())
        live._watcher._inotify.close()
    for tail in live._tails.values():
        tail.close()

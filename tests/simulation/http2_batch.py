"""Many runs in processes of their own: one that dies of SIGBUS is found like one that fails.

Owns the way from a range of seeds to one sentence for each that failed. A child writes down the
seed it begins; if a signal ends it, that seed did it, and another child goes on behind it.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from typing import TYPE_CHECKING

from tests.simulation.asgi_run import AsgiRun
from tests.simulation.http2_run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SHM = "/dev/shm"
_NOTE = struct.Struct("<qi")
AGAIN = "python -m tests.simulation.http2_batch"


def folder() -> str:
    """An empty folder in memory where there is one; the caller's to remove."""
    return tempfile.mkdtemp(prefix="zerocopy-", dir=_SHM if os.access(_SHM, os.W_OK) else None)


def failure_of(
    one: Callable[[int, str], object], seed: int, below: str | None = None
) -> str | None:
    """Run `one` with a seed and an empty folder; what it raised."""
    root = folder() if below is None else tempfile.mkdtemp(dir=below)
    try:
        one(seed, root)
    except Exception:  # noqa: BLE001 - whatever it is
        return traceback.format_exc()
    finally:
        shutil.rmtree(root)
    return None


def failures_of(
    one: Callable[[int, str], object], first: int, count: int, stories_max: int = 3
) -> list[str]:
    """Run `one` with `count` seeds from `first` in children; a story for each that failed."""
    stories = []
    begin, end = first, first + count
    while begin < end:
        begin, story = _until_failure(one, begin, end)
        if story is not None:
            stories.append(story)
        if len(stories) >= stories_max:
            break
    return stories


def _until_failure(
    one: Callable[[int, str], object], begin: int, end: int
) -> tuple[int, str | None]:
    """A child runs the seeds until one fails; the next seed to run, and the story of that one."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    below = folder()
    child = os.fork()
    if not child:
        os.close(reading)
        _be_child(one, range(begin, end), writing, below)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shutil.rmtree(below)
    seed, nbytes, position = begin, 0, 0
    while position + _NOTE.size <= len(told):
        seed, nbytes = _NOTE.unpack_from(told, position)
        position += _NOTE.size
        if nbytes:
            break
    if status < 0:
        return seed + 1, f"seed {seed} ended its process by {signal.Signals(-status).name}"
    if nbytes:
        story = told[position : position + nbytes].decode()
        return seed + 1, f"seed {seed} failed; again: {AGAIN} {one.__name__} {seed}\n{story}"
    assert status == 0, f"the child of seed {seed} ended with {status}"
    return end, None


def _be_child(
    one: Callable[[int, str], object], seeds: Iterable[int], writing: int, below: str
) -> None:
    try:
        for seed in seeds:
            os.write(writing, _NOTE.pack(seed, 0))
            story = failure_of(one, seed, below)
            if story is not None:
                raw = story.encode()[:60_000]
                os.write(writing, _NOTE.pack(seed, len(raw)))
                with os.fdopen(writing, "wb", closefd=False) as pipe:
                    pipe.write(raw)
                break
        os._exit(0)
    finally:
        os._exit(70)


def http2(seed: int, root: str) -> str:
    """One run over HTTP/2; its digest."""
    return Run(seed, root).execute()


def asgi(seed: int, root: str) -> str:
    """One run of the ASGI application bare; its digest."""
    return AsgiRun(seed, root).execute()


def main() -> None:
    """Run one seed again, in this process: kind and seed are the arguments."""
    kind, seed = sys.argv[1], int(sys.argv[2])
    print(failure_of({"http2": http2, "asgi": asgi}[kind], seed) or "right")  # noqa: T201


if __name__ == "__main__":
    main()

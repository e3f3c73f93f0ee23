"""What malloc(3) does with freed memory: keeps it for the next buffer, or gives it back.

By ctypes, for the standard library has no binding. Decision 17 measured it.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of <malloc.h>, for mallopt(3)."""

MMAP_THRESHOLD_BYTES = 16_777_216
TRIM_THRESHOLD_BYTES = 33_554_432
"""Freed memory that a process keeps at most at the top of its heap."""


def keep_freed_memory() -> None:
    """Have malloc(3) reuse large buffers instead of asking the kernel each time.

    A batch of frames, or of rows to import, is some buffers of 256 KiB and more that live for a
    millisecond. With glibc's defaults they may be mapped, faulted in and given back for every
    batch: half of the throughput of a worker, a twentieth of an import. Other C libraries have no
    mallopt(3); nothing happens then.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)


def give_back_freed_memory() -> None:
    """Have malloc(3) return what lies free between what is used: malloc_trim(3); for a thread."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)

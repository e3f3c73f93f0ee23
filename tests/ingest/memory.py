"""Directories in memory, where fsync(2) costs nothing: for tests that make many files."""

from __future__ import annotations

import os
import tempfile

_MEMORY = "/dev/shm"


def memory_directory() -> tempfile.TemporaryDirectory[str]:
    """A directory for a with statement; on the disk where there is no memory for files."""
    return tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)

"""A pseudo-terminal for a test; a machine without one skips the test and says so."""

from __future__ import annotations

import os

import pytest


def open_terminal() -> tuple[int, int]:
    """The descriptors of a terminal, ours and the one for a program; the caller closes both."""
    try:
        return os.openpty()
    except OSError as error:  # no /dev/ptmx or no /dev/pts: a bare chroot has neither
        pytest.skip(f"no pseudo-terminal here: {error}")

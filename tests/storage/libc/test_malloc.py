"""What malloc(3) keeps of freed memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ROUNDS, BUFFERS, BUFFER_BYTES, PAGE_BYTES = 20, 8, 1 << 20, 4096

FAULTS = f"""
import resource
from zerocopy.storage.libc.malloc import keep_freed_memory
keep_freed_memory()
for number in range({ROUNDS} + 1):
    if number == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [bytearray({BUFFER_BYTES}) for _ in range({BUFFERS})]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt(3) is of glibc")
def test_buffers_that_were_freed_are_used_again() -> None:
    """Some megabytes, again and again, are not faulted in anew: by default each round is."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    assert int(done.stdout) < ROUNDS * BUFFERS * BUFFER_BYTES // PAGE_BYTES // 10

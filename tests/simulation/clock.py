"""Virtual time: it stands still unless a system call costs some or the world moves it on."""

from __future__ import annotations

NS_PER_S = 1_000_000_000
KERNEL_TICK_NS = 4_000_000
"""The kernel stamps files by a clock that moves at each timer interrupt (HZ=250)."""


class Clock:
    """Nanoseconds since 1970, and the ways the package asks for them.

    It takes the place of the module `time` wherever the package imported that.
    """

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def time(self) -> float:
        """Unix seconds."""
        return self.now_ns / NS_PER_S

    def time_ns(self) -> int:
        """Unix nanoseconds."""
        return self.now_ns

    def monotonic(self) -> float:
        """The same clock: nobody sets it."""
        return self.now_ns / NS_PER_S

    def monotonic_ns(self) -> int:
        """The same."""
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        """Time passes."""
        self.advance_to(self.now_ns + int(seconds * NS_PER_S))

    def coarse_ns(self) -> int:
        """What a file's times are set to now."""
        return self.now_ns - self.now_ns % KERNEL_TICK_NS

    def advance_to(self, then_ns: int) -> None:
        """Move on; never back."""
        self.now_ns = max(self.now_ns, then_ns)

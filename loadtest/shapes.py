"""How many users there are as time goes on.

Owns the shapes; `--shape` chooses one, and locust's own `--users`, `--spawn-rate` and `--run-time`
give its size: the most users, how fast they come, and when it ends.
"""

from __future__ import annotations

from typing import Any, ClassVar

from locust import LoadTestShape

RUN_TIME_S = 60
RAMP_STEPS = 10
SPIKE_FIRST, SPIKE_LAST = 0.4, 0.6
"""The part of the run in which everybody comes at once."""

SPIKE_BASE = 0.1
"""Of the users, before and after the spike."""

SOAK_WAVE_S = 300
SOAK_LOW = 0.5
"""A soak goes between this part of the users and all of them, a wave every few minutes."""


class Steady(LoadTestShape):
    """All users until the end."""

    abstract: ClassVar[bool] = True
    use_common_options: ClassVar[bool] = True

    def share(self, elapsed_s: float, total_s: float) -> float:
        """The part of the users that there are at this time."""
        del elapsed_s, total_s
        return 1.0

    def rate(self, users: int, spawn_rate: float) -> float:
        """How many come or go in a second."""
        del users
        return spawn_rate

    def tick(self) -> tuple[int, float] | None:
        """What locust asks every second: how many users, and how fast; None ends the run."""
        assert self.runner is not None, "locust sets it"
        options: Any = self.runner.environment.parsed_options
        most, total_s = options.num_users or 1, options.run_time or RUN_TIME_S
        elapsed_s = self.get_run_time()
        if elapsed_s >= total_s:
            return None
        users = max(1, round(most * self.share(elapsed_s, total_s)))
        return users, self.rate(most, options.spawn_rate or 1)


class Ramp(Steady):
    """More and more, in ten equal steps: at which one does it break?"""

    abstract: ClassVar[bool] = True

    def share(self, elapsed_s: float, total_s: float) -> float:
        """One step more each tenth of the time."""
        return (int(elapsed_s / total_s * RAMP_STEPS) + 1) / RAMP_STEPS


class Spike(Steady):
    """A few, then everybody at once, then a few: does it recover?"""

    abstract: ClassVar[bool] = True

    def share(self, elapsed_s: float, total_s: float) -> float:
        """All of them in the middle fifth."""
        is_spike = SPIKE_FIRST <= elapsed_s / total_s < SPIKE_LAST
        return 1.0 if is_spike else SPIKE_BASE

    def rate(self, users: int, spawn_rate: float) -> float:
        """All within a second."""
        return max(float(users), spawn_rate)


class Soak(Steady):
    """Waves of users for as long as it is told to run: does anything grow?"""

    abstract: ClassVar[bool] = True

    def share(self, elapsed_s: float, total_s: float) -> float:
        """A triangle between half and all."""
        del total_s
        wave = elapsed_s % SOAK_WAVE_S / SOAK_WAVE_S
        return SOAK_LOW + (1 - SOAK_LOW) * (1 - abs(2 * wave - 1))


SHAPES = {"steady": Steady, "ramp": Ramp, "spike": Spike, "soak": Soak}


class Shape(LoadTestShape):
    """The one that `--shape` names."""

    use_common_options: ClassVar[bool] = True
    _chosen: Steady | None = None

    def reset_time(self) -> None:
        """Begin again, with what the options say now."""
        super().reset_time()
        self._chosen = None

    def tick(self) -> tuple[int, float] | None:
        """What the chosen shape says."""
        if self._chosen is None:
            assert self.runner is not None, "locust sets it"
            options: Any = self.runner.environment.parsed_options
            self._chosen = SHAPES[options.shape]()
            self._chosen.runner = self.runner
        return self._chosen.tick()

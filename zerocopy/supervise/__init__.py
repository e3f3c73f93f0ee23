"""Processes: the supervisor, its generations of workers, what they share, signals."""

"""Processes: the supervisor, generations of workers, what they share, and signals.

`compose.py` builds the objects of a worker from its configuration.
"""

"""Composition: routes, worker processes, their supervisor, metrics and logs."""

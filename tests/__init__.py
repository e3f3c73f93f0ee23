"""Tests: `tests/` mirrors the package; contract, conformance, faults and blackbox stand beside."""

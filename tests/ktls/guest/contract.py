"""The contract suite in the virtual machine, over TLS that the kernel encrypts.

`python -m tests.ktls -m tests.ktls.guest.contract WIRE` runs pytest over one wire of
tests/contract/transports.py. Its last line is JSON: how the tests ended, which failed, what the
servers and the kernel counted. Further arguments are pytest's: other files, `-x`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import tests.h2client
import tests.server
from tests.ktls.guest.serve import TIMEOUT_S, kernel_counters

if TYPE_CHECKING:
    import os
    from types import TracebackType

TEST_TIMEOUT_S = 300
"""Of one test: an emulated processor, on a machine that has other work."""

SUITE = "tests/contract"
NOT_HERE = frozenset(
    {
        *("test_bars_formats", "test_codings", "test_computed", "test_formats"),
        *("test_freshness", "test_recorder"),
    }
)
"""Modules that want what is not in the machine (polars, pyarrow), and two that write and ask in
threads for as long as all the others take together."""

PATIENCE = {"ZEROCOPY_SERVER_START_DEADLINE_S": str(TIMEOUT_S)}
OPTIONS = (
    *("-q", "--timeout", str(TEST_TIMEOUT_S)),
    # Not the conftest.py of all tests: it wants hypothesis, which no test of the contract does.
    *("--confcutdir", SUITE, "-p", "no:cacheprovider"),
)


class PatientServer(tests.server.ForkedServer):
    """A server that may take its time, and says at its end who encrypted."""

    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self, root: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(root, **{**PATIENCE, **options})

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop."""
        if self.metrics_port and self.process is not None and self.process.poll() is None:
            encrypted = self.metric("zerocopy_kernel_tls_connections_total")
            self.seen["servers"] += 1
            self.seen["encrypted by the kernel"] += int(encrypted)
        super().__exit__(_type, _error, _trace)


class Results:
    """Which tests run, and how each ended."""

    def __init__(self, wire: str) -> None:
        self._wire = wire
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Those that ask over the wire."""
        items[:] = [item for item in items if self._wire in _parameters(item)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what a test came to; before and after it only what went wrong."""
        if report.when == "call" or not report.passed:
            self.counts[report.outcome] += 1
        if report.failed:
            self.failed.append(f"{report.nodeid} ({report.when})")


def _parameters(item: pytest.Item) -> list[object]:
    return list(item.callspec.params.values()) if hasattr(item, "callspec") else []


def main(wire: str, options: list[str]) -> None:
    """Run, and print what came of it."""
    tests.server.START_TIMEOUT_S = tests.server.STOP_TIMEOUT_S = TIMEOUT_S
    tests.h2client.TIMEOUT_S = TIMEOUT_S
    tests.server.ForkedServer = PatientServer  # type: ignore[misc]  # before the suite's import
    modules = sorted(map(str, Path(SUITE).glob("test_*.py")))
    modules = [path for path in modules if Path(path).stem not in NOT_HERE]
    results = Results(wire)
    pytest.main([*OPTIONS, *(options or modules)], plugins=[results])
    found = {
        **results.counts,
        "failures": results.failed,
        "servers": PatientServer.seen,
        "kernel": kernel_counters(),
    }
    print("\n" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

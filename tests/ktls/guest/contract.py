"""The contract suite in the virtual machine, over TLS that the kernel encrypts.

`python -m tests.ktls -m tests.ktls.guest.contract` runs pytest over HTTP/1.1 in TLS, on the modules
that `make test` asks over every wire. Its last line is JSON: how the tests ended, which failed,
what the kernel counted. Arguments are pytest's: other files, `-k http2`.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import Any

import pytest

import tests.server
from tests.ktls.guest.serve import TIMEOUT_S, kernel_counters

TEST_TIMEOUT_S = 300
"""Of one test: an emulated processor, on a machine that has other work."""

SUITE = "tests/contract"
ENVIRON = {
    "PYTHONPATH": os.environ["PYTHONPATH"],
    "ZEROCOPY_SERVER_START_DEADLINE_S": str(TIMEOUT_S),
}
OPTIONS = (
    *("-q", "-k", "http1-tls", "--timeout", str(TEST_TIMEOUT_S)),
    # Not the conftest.py of all tests: it wants hypothesis, which no test of the contract does.
    *("--confcutdir", SUITE, "-p", "no:cacheprovider"),
)


class PatientServer(tests.server.RunningServer):
    """A server that may take its time."""

    def __init__(self, root: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(root, **{**ENVIRON, **options})


class Results:
    """Which tests run, and how each ended."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out those that start a server of their own, which takes half a minute here."""
        shared = [item for item in items if "site" in getattr(item, "fixturenames", ())]
        self.counts["left out"] = len(items) - len(shared)
        items[:] = shared

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what a test came to; before and after it only what went wrong."""
        if report.when == "call" or not report.passed:
            self.counts[report.outcome] += 1
        if report.failed:
            self.failed.append(f"{report.nodeid} ({report.when})")


def main(options: list[str]) -> None:
    """Run, and print what came of it."""
    tests.server.START_TIMEOUT_S = tests.server.STOP_TIMEOUT_S = TIMEOUT_S
    tests.server.RunningServer = PatientServer  # type: ignore[misc]  # before the suite's import
    from tests.contract.conftest import ON_EVERY_WIRE  # noqa: PLC0415  # imports the server

    modules = [f"{SUITE}/{name}.py" for name in sorted(ON_EVERY_WIRE)]
    results = Results()
    pytest.main([*OPTIONS, *(options or modules)], plugins=[results])
    found = {**results.counts, "failures": results.failed, "kernel": kernel_counters()}
    print("\n" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

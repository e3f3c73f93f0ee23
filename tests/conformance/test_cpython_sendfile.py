"""CPython's own cases for `loop.sendfile` and `loop.sock_sendfile`, run on our loop.

Owns the list of the cases that cannot hold on uvloop's transports, a reason each. It never copies a
case: they are the interpreter's, as shipped in `test.test_asyncio.test_sendfile`. Distributions
that strip the `test` package (Debian) skip this file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zerocopy.transport.loop import Loop, new_event_loop

_REASON = "this interpreter does not ship test.test_asyncio.test_sendfile"
cases: Any = pytest.importorskip(
    "test.test_asyncio.test_sendfile", reason=_REASON, exc_type=ImportError
)
support: Any = pytest.importorskip("test.support.os_helper", reason=_REASON, exc_type=ImportError)
utils: Any = pytest.importorskip("test.test_asyncio.utils", reason=_REASON, exc_type=ImportError)

# Each case collects three times when it ends.
pytestmark = pytest.mark.usefixtures("frozen")

EXCLUDED = {
    "test_sendfile_prevents_bare_write": (
        "transport.write() belongs to uvloop's C classes and cannot be told of a sendfile; "
        "loop.sendfile documents that nobody may write meanwhile"
    ),
}


class _OnOurLoop:
    """What CPython's mixins ask of the class that runs them."""

    _directory: ClassVar[tempfile.TemporaryDirectory[str]]
    _testfn: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        """Keep the cases' file out of the working directory, where TESTFN would be."""
        cls._directory = tempfile.TemporaryDirectory()
        cls._testfn, support.TESTFN = support.TESTFN, str(Path(cls._directory.name, "sent"))
        super().setUpClass()  # type: ignore[misc]

    @classmethod
    def tearDownClass(cls) -> None:
        """Undo `setUpClass`."""
        super().tearDownClass()  # type: ignore[misc]
        support.TESTFN = cls._testfn
        cls._directory.cleanup()

    def create_event_loop(self) -> Loop:
        """Return the loop under test."""
        return new_event_loop()

    @staticmethod
    def close_loop(loop: Loop) -> None:
        """Close it; CPython's version looks for the executor in a private attribute."""
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


# A dynamic class: to mypy the bases, which have no stubs, are values. None hides a case.
TestCPythonSendfile = type(
    "TestCPythonSendfile",
    (_OnOurLoop, cases.SendfileTestsBase, utils.TestCase),
    dict.fromkeys(EXCLUDED),
)


def test_excluded_cases_exist() -> None:
    """The list of exclusions names only cases that this interpreter has."""
    shipped = {name for name in dir(cases.SendfileTestsBase) if name.startswith("test_")}
    assert set(EXCLUDED) <= shipped
    assert len(shipped) - len(EXCLUDED) >= 19

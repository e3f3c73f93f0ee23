"""What holds for every test, and what all tests of a process have in common."""

from __future__ import annotations

import gc
import itertools
import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.blackbox.chromium import Browser

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "20"))
"""Of each property, others in each run; `make slow` tries many more."""

# None depends on how busy the machine is; pytest-timeout bounds them. What fails is told as a line
# that makes it happen again, on any machine: no database, whose files are thousands in each run.
settings.register_profile(
    "zerocopy",
    deadline=None,
    database=None,
    print_blob=True,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("zerocopy")

DAY_S = 86_400
WHOLE_DAY_S = 20.0
"""More than a test of a day's quota takes on a busy machine; with it, less than a test may take."""

gc.disable()  # until all tests are collected: what that makes stays, and is walked again and again


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a folder together, in the order that pytest-randomly has chosen otherwise.

    A folder's tests share servers, proxies and what they import, and all that need a browser share
    one. Else each of the processes that share the tests would start and import all of it.
    """
    folders: dict[str, list[pytest.Item]] = {}
    for item in items:
        folder = item.nodeid.partition("::")[0].split("/")[1]
        uses_browser = "browser" in getattr(item, "fixturenames", ())
        folders.setdefault("web" if uses_browser else folder, []).append(item)
    items[:] = itertools.chain.from_iterable(folders.values())


def pytest_collection_finish() -> None:
    """Take what collecting made, some million objects that stay, out of the collector's sight.

    Many tests collect, to see that nothing was left in circles: 0.3 s each with all that, 0.02 s
    without.
    """
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module")
def frozen() -> None:
    """The same for what was made since, such as the modules that tests import: 0.1 s a collection.

    For modules whose every test collects.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def whole_day() -> None:
    """Midnight (UTC) does not come while a test runs: where it is near, that is waited for.

    For tests of what may be had in a day, by real servers: what was had is forgotten at midnight.
    """
    left_s = DAY_S - time.time() % DAY_S
    if left_s < WHOLE_DAY_S:
        time.sleep(left_s)


@pytest.fixture(name="browser", scope="session")
def fixture_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of a process: a start costs two seconds of processor time.

    Each test has a page of its own in it.
    """
    from tests.blackbox.chromium import chromium  # noqa: PLC0415 - of few tests

    with chromium(str(tmp_path_factory.mktemp("profile"))) as running:
        yield running


@pytest.fixture
def each_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress function of ours is called for each read, not twenty times a second.

    For tests that act amid a transfer: a fast one is over before a second call.
    """
    monkeypatch.setattr("zerocopy.client.progress.PACE_S", 0.0)

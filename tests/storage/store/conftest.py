"""The stand-in for S3, empty and sound for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standin import Standin, standin
from tests.storage.store.bench import use_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", name="shared_bucket")
def fixture_shared_bucket() -> Iterator[Standin]:
    """One server for all tests."""
    with standin() as bucket:
        yield bucket


@pytest.fixture(name="bucket")
def fixture_bucket(shared_bucket: Standin, monkeypatch: pytest.MonkeyPatch) -> Standin:
    """It, with nothing in it and no fault."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    use_credentials(monkeypatch)
    shared_bucket.reset()
    return shared_bucket

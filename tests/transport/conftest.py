"""Fixtures of the loop's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

from tests.transport.http1.bench import LARGE, FileSource
from tests.transport.senders import CONTENT, NeverRead
from zerocopy.core import window


@pytest.fixture
def file(tmp_path: Path) -> Iterator[NeverRead]:
    """Yield a file with CONTENT."""
    (tmp_path / "content").write_bytes(CONTENT)
    with NeverRead(tmp_path / "content") as opened:
        yield opened


@pytest.fixture(params=["socket", "transport"])
def kind(request: pytest.FixtureRequest) -> str:
    """Name each kind of output in turn."""
    return str(request.param)


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    """A file of LARGE."""
    (tmp_path / "large").write_bytes(LARGE)
    return FileSource(tmp_path / "large")


@pytest.fixture
def nothing_is_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments stand for large ones: none is gathered."""
    monkeypatch.setattr(window, "TINY_BYTES", 0)

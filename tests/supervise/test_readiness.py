"""A reload that comes to an object store begins its cache, as a start does."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from zerocopy.config.load import Config, load
from zerocopy.storage.store.checks import start_of
from zerocopy.supervise.readiness import ReloadCheck

if TYPE_CHECKING:
    from pathlib import Path


def reloaded(config: Config, current: Config) -> None:
    """Prepare a reload."""
    done = threading.Event()
    check = ReloadCheck(lambda: config, lambda _: None, current, done.set)
    assert done.wait(30)
    assert check.result() is not None


def test_copies_of_another_cache_are_believed_no_more(tmp_path: Path) -> None:
    """The power may have gone since a server used it. Those of the same cache were checked."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    environ = {"ZEROCOPY_CONFIG": os.devnull, "USE_TLS": "false"}
    local = load(environ={**environ, "DATA_PATH": str(tmp_path)})
    stored = load(
        environ={
            **environ,
            "DATA_PATH": (tmp_path / "store").as_uri(),
            "ZEROCOPY_S3_CACHE_PATH": str(tmp_path / "cache"),
        }
    )
    (tmp_path / "store").mkdir()
    (tmp_path / "cache").mkdir()
    before = start_of(str(tmp_path / "cache"))
    reloaded(stored, stored)
    assert start_of(str(tmp_path / "cache")) == before
    reloaded(stored, local)
    assert start_of(str(tmp_path / "cache")) > before

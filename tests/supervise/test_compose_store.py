"""What a worker says of its object store before anybody asks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.standin import CREDENTIALS
from zerocopy.config import load as config
from zerocopy.core.counters import SLOTS
from zerocopy.storage.store import checks
from zerocopy.supervise.compose import build_service

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("keeps", [True, False])
def test_cache_that_cannot_be_checked_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keeps: bool
) -> None:
    """Its file system has no extended attributes; nothing is asked of the store for that."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    monkeypatch.setattr(checks, "_keeps_attributes", lambda _path: keeps)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    environ = {
        "DATA_PATH": "s3://bucket/prefix",
        "ZEROCOPY_S3_CACHE_PATH": str(tmp_path),
        "ZEROCOPY_S3_CHECK_BYTES_PER_S_MAX": "0",
    }
    settings = config.load(os.devnull, environ=environ)
    with ThreadPoolExecutor(1) as executor, capture_logs() as logs:
        build_service(settings, [0] * len(SLOTS), executor)
    told = [(each["event"], each["path"]) for each in logs if each["log_level"] == "warning"]
    assert told == ([] if keeps else [("store_cache_not_checked", str(tmp_path))])

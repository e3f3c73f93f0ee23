"""Ranges and preconditions of the running server against the reference, field by field."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.client import SMALL, body_of, seal, write_series
from tests.fuzz.fields import field_lists, methods
from tests.fuzz.reference import Outcome, Representation, expected, parse_date
from tests.server import Answer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fuzz.fields import Fields

    Ask = Callable[[str, Fields], Answer]

RECORDS = 100


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A root with one closed day, and what its whole answer holds."""
    root = tmp_path_factory.mktemp("ranges")
    write_series(root, "SMALL", RECORDS)
    seal(root, "SMALL")
    return root, body_of(root, "SMALL")

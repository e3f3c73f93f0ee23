"""ETags of S3: what they prove of a file."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from zerocopy.storage.store.etags import PARTS_PUT_BYTES, is_of_file, parts_of

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 24_576  # 6 MiB


def in_parts(part_bytes: int) -> str:
    """The ETag of the content, put in parts."""
    parts = [CONTENT[at : at + part_bytes] for at in range(0, len(CONTENT), part_bytes)]
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(digests).hexdigest()}-{len(parts)}"'


@pytest.mark.parametrize(
    ("etag", "is_its"),
    [
        (f'"{hashlib.md5(CONTENT).hexdigest()}"', True),
        (hashlib.md5(CONTENT).hexdigest(), True),
        *((in_parts(part_bytes), True) for part_bytes in PARTS_PUT_BYTES),
        (in_parts(3 << 20), False),
        (in_parts(1 << 20), False),
        (f'"{hashlib.md5(CONTENT[1:]).hexdigest()}"', False),
        ('"0x8DC1"', False),
        ("", False),
    ],
)
def test_etag_is_that_of_a_file_put_at_once_or_in_usual_parts(
    tmp_path: Path, etag: str, *, is_its: bool
) -> None:
    """Nothing else proves what the file holds."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT + b"more")
    assert is_of_file(str(path), etag, len(CONTENT)) is is_its


def test_no_part_is_tried_that_does_not_fit_the_number_of_parts() -> None:
    """Each try reads the whole file."""
    digest = "9" * 32
    assert parts_of(digest, 9 << 20) == [None]
    assert parts_of(f'"{digest}-2"', 9 << 20) == [5 << 20, 8 << 20]
    assert parts_of(f'"{digest}-1"', 9 << 20) == [16 << 20]
    assert parts_of(f'"{digest}-3"', 9 << 20) == []

"""A frame of any dtype becomes the file that the server would have made."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.ipc  # type: ignore[import-untyped]
import pytest

from zerocopy.client.frame import Frame
from zerocopy.commands.client.making import encode

FRAME = Frame(
    {
        "time": np.array([1, 2], "<u4"),
        "file": np.array([2**63, 1], "<u8"),
        "maker": np.array([b"a,b", b"\xff\0c"], "S4"),
    },
    skipped=("06.10.24",),
)


def made(format_: str) -> bytes:
    """`FRAME` in a format."""
    file = io.BytesIO()
    encode(FRAME, format_, file)
    return file.getvalue()


def test_text_and_wide_integers_keep_their_values() -> None:
    """As the contract says of csv and json; numpy and Arrow have the raw bytes."""
    assert made("csv") == b'time,file,maker\n1,9223372036854775808,"a,b"\n2,1,\xef\xbf\xbd\0c\n'
    assert b'"skipped":["06.10.24"]' in made("json")
    arrays = np.load(io.BytesIO(made("npz")))
    for name, values in FRAME.items():
        np.testing.assert_array_equal(arrays[name], values)
    table = pyarrow.ipc.open_stream(made("arrow")).read_all()
    assert table["maker"].to_pylist() == [b"a,b\0", b"\xff\0c\0"]


@pytest.mark.parametrize("has_head", [True, False])
def test_csv_without_its_head_goes_on_with_another(has_head: bool) -> None:  # noqa: FBT001
    """So that a csv can be written in pieces, empty ones too."""
    for frame, lines in ((FRAME, 2), (FRAME[:0], 0)):
        file = io.BytesIO()
        encode(frame, "csv", file, has_head=has_head)
        assert len(file.getvalue().splitlines()) == lines + has_head

"""What files are wrapped in, and which are meant."""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from typing import TYPE_CHECKING

import polars as pl
import pytest
import zstandard

from tests.ingest.by_hand import Done, Row, files_of, found_in, import_

if TYPE_CHECKING:
    from pathlib import Path

T = 1_735_689_600
TEXT = b"time,price\n1735689600,1.5\n1735689601,2.5\n"
ROWS = [Row(T * 10**9, {"price": 1.5}), Row((T + 1) * 10**9, {"price": 2.5})]
OPTIONS = ("--exchange=e", "--symbol=S", "--type=T", "--map=price=price")


def run(root: Path, *files: Path | str) -> Done:
    """Import files of the columns time and price."""
    return import_(root, *files, *OPTIONS)


def zipped(name: str, content: bytes) -> bytes:
    """A zip archive with a folder, a member, and what macOS adds."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("some")
        archive.writestr(f"some/{name}", content)
        archive.writestr(f"__MACOSX/some/{name}", b"\0\5\x16\7")
    return out.getvalue()


def frame() -> pl.DataFrame:
    """The rows with types."""
    return pl.DataFrame({"time": [T, T + 1], "price": [1.5, 2.5]})


def written(how: str) -> bytes:
    """The rows as one of polars' forms."""
    out = io.BytesIO()
    getattr(frame(), how)(out)
    return out.getvalue()


WRAPPED = {
    "plain": TEXT,
    "gzip": gzip.compress(TEXT),
    "two gzips, one after the other": gzip.compress(TEXT[:20]) + gzip.compress(TEXT[20:]),
    "zstd": zstandard.compress(TEXT),
    "two frames of zstd": zstandard.compress(TEXT[:20]) + zstandard.compress(TEXT[20:]),
    "gzip in zstd": zstandard.compress(gzip.compress(TEXT)),
    "zip": zipped("rows.csv", TEXT),
    "Parquet": written("write_parquet"),
    "Parquet in gzip": gzip.compress(written("write_parquet")),
    "Parquet in zip": zipped("rows.parquet", written("write_parquet")),
    "Arrow file": written("write_ipc"),
    "Arrow stream": written("write_ipc_stream"),
    "NDJSON": b'\n{"time":1735689600,"price":1.5}\n\n{"price":"2.5","time":1735689601}\n',
    "NDJSON in gzip": gzip.compress(written("write_ndjson")),
}


@pytest.mark.parametrize("form", WRAPPED)
def test_content_decides_what_a_file_is(tmp_path: Path, form: str) -> None:
    """Each form gives the same day files, under a name that tells nothing."""
    file = tmp_path / "rows"
    file.write_bytes(WRAPPED[form])
    done = run(tmp_path / "root", file)
    assert (done.code, done.err) == (0, "")
    assert found_in(tmp_path / "root", "e", "S", "T") == files_of(ROWS)


@pytest.mark.parametrize("form", ["plain", "zstd", "Parquet", "NDJSON"])
def test_standard_input_is_a_source(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes through it."""
    stdin = io.TextIOWrapper(io.BytesIO(WRAPPED[form]))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run(tmp_path / "root", "-").code == 0
    assert found_in(tmp_path / "root", "e", "S", "T") == files_of(ROWS)


DAMAGED = {
    "gzip cut off": (gzip.compress(TEXT)[:-9], "is cut off or damaged"),
    "gzip with a wrong check": (gzip.compress(TEXT)[:-8] + b"\0" * 8, "is cut off or damaged"),
    "zstd cut off": (
        zstandard.compress(TEXT)[:-3],
        "is cut off or damaged (the zstd frame has no end)",
    ),
    "zstd damaged": (b"\x28\xb5\x2f\xfd" + b"\xff" * 30, "is cut off or damaged"),
    "Parquet cut off": (written("write_parquet")[:-30], "cannot be read as Parquet"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "is UTF-16; convert it: iconv -f UTF-16 -t UTF-8"),
    "a line of another kind": (TEXT + b'{"time": 1}\n', "line 4: has 1 field, not 2"),
    "a line that is no JSON": (
        b'{"time":1735689600,"price":1.5}\n{"time":\n',
        "line 2: is no JSON",
    ),
    "a line that is no object": (
        b'{"time":1735689600,"price":1.5}\n[1]\n',
        "line 2: is no JSON object",
    ),
    "a list": (b'{"time":1735689600,"price":[1]}\n', "line 1: price is no single value"),
    "a zip in a zip": (zipped("a", zipped("b", TEXT)), "is a zip archive inside another"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_file_is_left_out_with_one_line(tmp_path: Path, damage: str) -> None:
    """Nothing of it is written, what is sound beside it is; exit code 1."""
    content, words = DAMAGED[damage]
    (tmp_path / "bad").write_bytes(content)
    (tmp_path / "good").write_bytes(TEXT)
    done = run(tmp_path / "root", tmp_path / "bad", tmp_path / "good")
    assert done.code == 1
    assert words in done.err
    assert done.err.count("\n") == 1
    assert found_in(tmp_path / "root", "e", "S", "T") == files_of(ROWS)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["e"]


def test_without_zstandard_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a file that needs it is left out."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "bad").write_bytes(b"\x28\xb5\x2f\xfd")
    (tmp_path / "good").write_bytes(TEXT)
    done = run(tmp_path / "root", tmp_path / "bad", tmp_path / "good")
    assert done.err.startswith(f"zerocopy: {tmp_path / 'bad'}: is zstd: pip install zstandard;")
    assert found_in(tmp_path / "root", "e", "S", "T") == files_of(ROWS)


def test_glob_names_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Rows of one instant come in the order of the files."""
    for name, price in (("b.csv", "2.5"), ("a.csv", "1.5"), ("c.txt", "9")):
        (tmp_path / name).write_text(f"time,price\n{T},{price}\n", encoding="utf-8")
    assert run(tmp_path / "root", f"{tmp_path}/*.csv").code == 0
    rows = [Row(T * 10**9, {"price": price}) for price in (1.5, 2.5)]
    assert found_in(tmp_path / "root", "e", "S", "T") == files_of(rows)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("none.csv",), "none.csv: no such file"),
        (("*.none",), "*.none: no such file"),
        ((".",), "is a directory; name its files, or a glob"),
        (("a.csv", "a.csv"), "is named twice; its rows would be imported twice"),
        (("a.csv", "*.csv"), "is named twice; its rows would be imported twice"),
        (("a.csv", "../{here}/a.csv"), "is named twice; its rows would be imported twice"),
        (("a.csv", "link.csv"), "is named twice; its rows would be imported twice"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_read(
    tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    """One line, exit code 1, no data root."""
    (tmp_path / "a.csv").write_bytes(TEXT)
    (tmp_path / "link.csv").symlink_to("a.csv")
    paths = [f"{tmp_path}/{name.format(here=tmp_path.name)}" for name in names]
    done = run(tmp_path / "root", *paths)
    assert done.code == 1
    assert words in done.err
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("content", [b"", b"\n\n", b"time,price\n", b"\xef\xbb\xbf"], ids=range(4))
def test_file_without_rows_is_said_and_no_fault(tmp_path: Path, content: bytes) -> None:
    """Nothing is left out, for there is nothing."""
    (tmp_path / "a.csv").write_bytes(content)
    done = run(tmp_path / "root", tmp_path / "a.csv")
    assert (done.code, done.err) == (0, "")
    assert "a.csv: no rows" in done.out

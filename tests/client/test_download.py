"""Downloads: a file under its name is whole, whatever happened before."""

from __future__ import annotations

import asyncio
import csv
import errno
import fcntl
import json
import os
import threading
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from tests.client.liar import (
    BODY,
    OTHER,
    TAG,
    WHOLE,
    Liar,
    Say,
    chunked,
    cut,
    honest,
    part,
    response,
)
from zerocopy.client import (
    AsyncClient,
    BadRequest,
    Client,
    NotFound,
    Unavailable,
    UnexpectedAnswer,
    WriteFailed,
)
from zerocopy.client.layout import frame_of

if TYPE_CHECKING:
    from pathlib import Path


def download(liar: Liar, path: Path, **others: str) -> Path:
    """Of what the liar has."""
    with Client(liar.url) as client:
        return client.download("X", "time,price", path, type="MD", **others)  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {path.name for path in folder.iterdir()}


def test_every_format_has_the_same_records(client: Client, tmp_path: Path) -> None:
    """Chosen by the ending of the name."""
    wanted = client.data("X", "time,price", type="MD")

    def get(name: str) -> Path:
        path = client.download("X", "time,price", tmp_path / name, type="MD")
        assert path == tmp_path / name
        return path

    assert frame_of(get("x.bin").read_bytes())["price"].tobytes() == wanted["price"].tobytes()
    for name in ("x.arrow", "x.arrows"):
        table = pa.ipc.open_stream(get(name).read_bytes()).read_all()
        assert np.array_equal(table["price"].to_numpy(), wanted["price"])
    assert np.array_equal(pl.read_parquet(get("x.parquet"))["price"].to_numpy(), wanted["price"])
    told = json.loads(get("x.json").read_bytes())
    assert told["num_records"] == len(wanted)
    with get("X.CSV").open(newline="") as file:
        assert [int(row["time"]) for row in csv.DictReader(file)] == wanted["time"].tolist()
    client.download("X", "time", tmp_path / "odd.dat", type="MD", format="columns")
    assert not [name for name in names(tmp_path) if ".part" in name]


def test_a_name_without_a_format_is_refused(tmp_path: Path) -> None:
    """Before anything is asked; what would be right is told."""
    with Liar(Say(WHOLE)) as liar:
        for name in ("x.txt", "x", "x.gz"):
            with pytest.raises(BadRequest, match=r"\.parquet"):
                download(liar, tmp_path / name)
        with pytest.raises(BadRequest):
            download(liar, tmp_path / "x.csv", format="xml")
        assert liar.heads == []


def test_a_download_that_was_given_up_is_resumed_by_the_next(tmp_path: Path) -> None:
    """Also by another client: the part and its note are all it needs."""
    path = tmp_path / "x.bin"
    at = len(BODY) // 2
    busy = Say(response(b"", 503, Retry_After="999"))
    with Liar(Say(cut(at), "close"), busy) as liar, pytest.raises(Unavailable, match="503"):
        download(liar, path)
    assert names(tmp_path) == {"x.bin.part", "x.bin.part.json"}
    with Liar(honest) as liar:
        assert download(liar, path).read_bytes() == BODY
        assert [head.first for head in liar.heads] == [at - 1]
        assert liar.heads[0].fields["if-range"] == TAG
    assert names(tmp_path) == {"x.bin"}


def test_a_part_that_is_whole_already_costs_a_byte(tmp_path: Path) -> None:
    """The process ended before the rename; a range from its end would be a 416."""
    path = tmp_path / "x.bin"
    with Liar(honest) as liar:
        download(liar, path)
        request = liar.heads[0].target
        path.rename(tmp_path / "x.bin.part")
        (tmp_path / "x.bin.part.json").write_text(json.dumps({"request": request, "etag": TAG}))
        assert download(liar, path).read_bytes() == BODY
        assert liar.heads[1].first == len(BODY) - 1


@pytest.mark.parametrize(
    "note",
    [
        {"request": "/api/data?another", "etag": TAG},
        {"request": None},
        {"etag": TAG},
        [],
        "not json",
        None,
    ],
    ids=str,
)
def test_a_part_of_something_else_is_begun_anew(tmp_path: Path, note: object) -> None:
    """Or one whose note says nothing."""
    (tmp_path / "x.bin.part").write_bytes(b"?" * 1_000)
    if note is not None:
        text = note if isinstance(note, str) else json.dumps(note)
        (tmp_path / "x.bin.part.json").write_text(text)
    with Liar(honest) as liar:
        assert download(liar, tmp_path / "x.bin").read_bytes() == BODY
        assert "range" not in liar.heads[0].fields


def test_data_that_has_changed_since_is_begun_anew(tmp_path: Path) -> None:
    """Nothing of the part is in the file, though the new state is shorter."""
    path = tmp_path / "x.bin"
    gone = Say(response(b"", 404))
    with Liar(Say(cut(len(BODY) // 2), "close"), gone) as liar, pytest.raises(NotFound):
        download(liar, path)
    short = OTHER[:1_000]
    with Liar(Say(response(short, ETag='"two"'))) as liar:
        assert download(liar, path).read_bytes() == short
        assert liar.heads[0].first


def test_a_part_that_was_begun_anew_holds_nothing_of_before(tmp_path: Path) -> None:
    """Though the new state broke off earlier than the old one."""
    path = tmp_path / "x.bin"
    busy = Say(response(b"", 503, Retry_After="999"))
    other = response(OTHER, ETag='"two"')
    for say in (Say(cut(len(BODY) // 2), "close"), Say(cut(100_000, other), "close")):
        with Liar(say, busy) as liar, pytest.raises(Unavailable):
            download(liar, path)
    with Liar(lambda head: Say(part(OTHER, head.first, '"two"'))) as liar:
        assert download(liar, path).read_bytes() == OTHER
        assert 0 < liar.heads[0].first < 100_000


@pytest.mark.usefixtures("pauses")
def test_breaks_within_one_download_are_resumed(tmp_path: Path) -> None:
    """By bytes, and where a proxy sends chunks."""
    early = chunked(BODY[:90_000], is_whole=False, ETag=TAG)
    for say in (Say(cut(100_000), "reset"), Say(early, "close")):
        with Liar(say, honest) as liar:
            assert download(liar, tmp_path / "x.bin").read_bytes() == BODY
            assert liar.heads[1].first


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    """What was there stays until then."""
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with Liar(Say(response(b"", 404))) as liar, pytest.raises(NotFound):
        download(liar, path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"x.bin"}
    with Liar(honest) as liar:
        assert download(liar, path).read_bytes() == BODY


def test_a_body_without_a_length_is_no_file(tmp_path: Path) -> None:
    """Its end could be a break."""
    say = Say(response(BODY, Content_Length="", Connection="close"), "close")
    with Liar(say) as liar, pytest.raises(UnexpectedAnswer, match="no length"):
        download(liar, tmp_path / "x.csv")


def test_two_downloads_to_one_name_are_refused(tmp_path: Path) -> None:
    """The second is told of the first."""
    with (tmp_path / "x.bin.part").open("wb") as other, Liar(honest) as liar:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(WriteFailed, match="another download"):
            download(liar, tmp_path / "x.bin")
        assert liar.heads == []


def test_a_name_that_is_none_of_a_file_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    """A directory, and no name."""
    with Liar(honest) as liar, Client(liar.url) as client:
        folder = tmp_path / "folder"
        folder.mkdir()
        for path, kind in ((folder, WriteFailed), ("", BadRequest)):
            with pytest.raises(kind, match="name a file"):
                client.download("X", "time", path, type="MD", format="csv")
        assert liar.heads == []
    assert names(tmp_path) == {"folder"}


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """As what it is: an OSError too."""
    with Liar(honest) as liar, pytest.raises(WriteFailed, match="no such file") as caught:
        download(liar, tmp_path / "no" / "x.bin")
    assert isinstance(caught.value, OSError)
    assert str(caught.value) == caught.value.detail


def test_a_full_disk_leaves_a_part_to_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sentence that says so."""
    path = tmp_path / "x.bin"
    pwrite = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset >= 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, data[: 100_000 - offset], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with Liar(honest) as liar, pytest.raises(WriteFailed) as caught:
        download(liar, path)
    assert str(caught.value) == (
        f"{path}: no space left on device; 100,000 bytes are kept in x.bin.part"
    )
    monkeypatch.undo()
    with Liar(honest) as liar:
        assert download(liar, path).read_bytes() == BODY
        assert liar.heads[0].first == 99_999


def test_progress_is_told_from_where_it_began(tmp_path: Path) -> None:
    """Bytes that have come, and all of them."""
    told: list[tuple[int, int | None]] = []
    with Liar(honest) as liar, Client(liar.url) as client:
        client.download(
            "X",
            "time,price",
            tmp_path / "x.bin",
            type="MD",
            progress=lambda received, total: told.append((received, total)),
        )
        client.data("X", "time,price", type="MD", progress=lambda *both: told.append(both))
    assert told[-1] == (len(BODY), len(BODY))
    assert (len(BODY), len(BODY)) in told[:-1]


@pytest.mark.usefixtures("pauses", "each_read")
def test_progress_tells_the_end_of_a_body_of_unknown_length(tmp_path: Path) -> None:
    """Once, in the thread that reads, and never of what broke off."""
    told: list[tuple[int, int | None]] = []
    threads = set()

    def note(received: int, total: int | None) -> None:
        told.append((received, total))
        threads.add(threading.get_ident())

    async def get(liar: Liar) -> None:
        async with AsyncClient(liar.url) as client:
            path = tmp_path / "x.bin"
            await client.download("X", "time,price", path, type="MD", progress=note)

    early = chunked(BODY[:90_000], is_whole=False, ETag=TAG)
    rest = chunked(BODY, ETag='"two"')  # of another version, so all of it comes
    with Liar(Say(early, "close"), Say(rest)) as liar:
        asyncio.run(get(liar))
    wholes = [received for received, total in told if total is not None]
    assert wholes == [len(BODY)]
    assert told[-1] == (len(BODY), len(BODY))
    assert threading.get_ident() not in threads

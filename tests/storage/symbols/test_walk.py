"""`list_symbols` against the oracle, and what is left out of it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.descriptors import held_files
from tests.naive import naive_symbols
from zerocopy.core.errors import DataError, OverloadError
from zerocopy.storage.symbols.walk import SymbolRecency, date_text, list_symbols, symbols_document

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("BTC-USD", "ETH-USD", "tAAVE:USD", "^GSPC", ".hidden", "-bad", "a b", "_x")


def touch(root: str, path: str, modified_s: int = 1_738_308_123) -> str:
    """An empty file with a modification time."""
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "wb"):
        pass
    os.utime(full, (modified_s, modified_s))
    return full


def document(root: str, exchange: str | None = None) -> dict[str, object]:
    """The answer of /api/symbols."""
    return symbols_document(list_symbols(root, exchange))


def test_list_symbols_newest_first_ties_by_name(tmp_path: Path) -> None:
    """Inside an exchange by recency, then by name; exchanges by name."""
    root = str(tmp_path)
    touch(root, "kraken/B/MD/time.01.01.25.bin", 50)
    touch(root, "coinbase/A/MD/time.01.01.25.bin", 10)
    touch(root, "coinbase/C/MD/time.01.01.25.bin", 20)
    touch(root, "coinbase/B/MD/time.01.01.25.bin", 20)
    assert list_symbols(root) == {
        "coinbase": [SymbolRecency("B", 20), SymbolRecency("C", 20), SymbolRecency("A", 10)],
        "kraken": [SymbolRecency("B", 50)],
    }
    assert list(list_symbols(root)) == ["coinbase", "kraken"]
    assert document(root) == naive_symbols(root)


def test_symbols_document_is_that_of_the_contract(tmp_path: Path) -> None:
    """Keys, their order and the date as the contract prints them."""
    root = str(tmp_path)
    touch(root, "coinbase/BTC-USD/MD/time.31.01.25.bin", 1_738_326_923)
    found = document(root)
    assert list(found) == ["symbols", "exchanges"]
    assert found == {
        "symbols": ["BTC-USD"],
        "exchanges": {
            "coinbase": [
                {
                    "symbol": "BTC-USD",
                    "last_update": 1_738_326_923,
                    "last_update_date": "2025-01-31 12:35:23 UTC",
                }
            ]
        },
    }


def test_symbols_document_lists_a_symbol_of_two_exchanges_once(tmp_path: Path) -> None:
    """`symbols` is sorted and unique."""
    root = str(tmp_path)
    for exchange, symbol in (("b", "X"), ("a", "X"), ("a", "Z"), ("b", "A")):
        touch(root, f"{exchange}/{symbol}/MD/time.01.01.25.bin")
    assert document(root)["symbols"] == ["A", "X", "Z"]


def test_list_symbols_latest_of_any_bin_below_the_symbol(tmp_path: Path) -> None:
    """Any type, any name that ends in .bin, any depth; other files do not count."""
    root = str(tmp_path)
    touch(root, "coinbase/X/MD/time.01.01.25.bin", 100)
    touch(root, "coinbase/X/TRADES/price.02.01.25.bin", 300)
    touch(root, "coinbase/X/MD/deep/er/any.bin", 400)
    touch(root, "coinbase/X/MD/notes.txt", 900)
    touch(root, "coinbase/X/MD/.time.bin", 900)
    touch(root, "coinbase/X/.hidden/time.bin", 900)
    os.symlink(
        touch(root, "outside.bin", 900), os.path.join(root, "coinbase/X/MD/price.01.01.25.bin")
    )
    assert list_symbols(root) == {"coinbase": [SymbolRecency("X", 400)]}
    assert document(root) == naive_symbols(root)


def test_list_symbols_links_hidden_names_and_plain_files_are_ignored(tmp_path: Path) -> None:
    """Only directories that a query could spell."""
    root = str(tmp_path / "root")
    touch(root, "coinbase/X/MD/time.01.01.25.bin")
    touch(str(tmp_path), "away/Y/MD/time.01.01.25.bin")
    os.symlink(tmp_path / "away", os.path.join(root, "linked"))
    os.symlink(tmp_path / "away/Y", os.path.join(root, "coinbase/Y"))
    touch(root, "README.bin")
    touch(root, "coinbase/README.bin")
    touch(root, ".git/X/MD/time.01.01.25.bin")
    touch(root, "coinbase/.X/MD/time.01.01.25.bin")
    touch(root, "bad name/X/MD/time.01.01.25.bin")
    os.makedirs(os.path.join(root, "coinbase/EMPTY/MD"))
    os.makedirs(os.path.join(root, "nothing"))
    found = list_symbols(root)
    assert found == {"coinbase": [SymbolRecency("X", 1_738_308_123)], "nothing": []}
    assert document(root) == naive_symbols(root)


@pytest.mark.parametrize("kind", ["missing", "file", "link", "hidden"])
def test_list_symbols_unknown_exchange_is_an_empty_list(tmp_path: Path, kind: str) -> None:
    """Not there, a plain file or a link: its list is empty, and that is no error."""
    root = str(tmp_path)
    touch(root, "coinbase/X/MD/time.01.01.25.bin")
    if kind == "file":
        touch(root, "venue")
    elif kind == "link":
        os.symlink("coinbase", os.path.join(root, "venue"))
    elif kind == "hidden":
        touch(root, ".venue/X/MD/time.01.01.25.bin")
    assert document(root, "venue") == {"symbols": [], "exchanges": {"venue": []}}
    assert document(root, "coinbase") == naive_symbols(root, "coinbase")


def test_list_symbols_is_as_of_the_call(tmp_path: Path) -> None:
    """Nothing is kept between two calls: touched, added, removed."""
    root = str(tmp_path)
    path = touch(root, "coinbase/X/MD/time.01.01.25.bin", 100)
    for modified_s in range(1_000, 1_200):
        os.utime(path, (modified_s, modified_s))
        assert list_symbols(root)["coinbase"] == [SymbolRecency("X", modified_s)]
    touch(root, "coinbase/Y/MD/time.01.01.25.bin")
    assert document(root)["symbols"] == ["X", "Y"]
    shutil.rmtree(os.path.join(root, "coinbase/X"))
    assert document(root)["symbols"] == ["Y"]


def test_list_symbols_missing_root_is_a_data_error(tmp_path: Path) -> None:
    """A root that cannot be read is not an empty list."""
    with pytest.raises(DataError):
        list_symbols(str(tmp_path / "none"))


def test_list_symbols_root_may_be_a_link(tmp_path: Path) -> None:
    """What the operator points at may be a link."""
    touch(str(tmp_path), "root/coinbase/X/MD/time.01.01.25.bin")
    os.symlink(tmp_path / "root", tmp_path / "link")
    assert list_symbols(str(tmp_path / "link")) == list_symbols(str(tmp_path / "root"))


def test_list_symbols_directory_that_may_not_be_read_is_as_good_as_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lost+found` is a legal name that only root may look into; the rest is listed."""
    root = str(tmp_path)
    touch(root, "coinbase/X/MD/time.01.01.25.bin")
    touch(root, "lost+found/Y/MD/time.01.01.25.bin")
    system_open = os.open

    def call(path: str, *args: Any, **kwargs: Any) -> int:
        if path == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return system_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", call)
    assert list(list_symbols(root)) == ["coinbase"]


@pytest.mark.parametrize(
    ("name", "number", "raised"),
    [
        ("open", errno.EMFILE, OverloadError),
        ("open", errno.EIO, DataError),
        ("scandir", errno.EIO, DataError),
    ],
)
def test_list_symbols_any_failing_system_call_raises_and_leaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, raised: type[Exception]
) -> None:
    """Each call in turn fails: the documented error, and every descriptor closed."""
    root = str(tmp_path)
    touch(root, "coinbase/X/MD/deep/time.01.01.25.bin")
    touch(root, "kraken/X/MD/time.01.01.25.bin")
    system = getattr(os, name)
    failed = 0
    while True:
        calls = 0

        def call(*args: Any, which: int = failed, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == which + 1:
                raise OSError(number, os.strerror(number))
            return system(*args, **kwargs)

        before = held_files()
        monkeypatch.setattr(os, name, call)
        try:
            list_symbols(root)
        except raised:
            failed += 1
            continue
        finally:
            monkeypatch.setattr(os, name, system)
            assert not held_files() - before
        break
    assert failed >= 5


@given(
    paths=st.dictionaries(
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from(NAMES),
            st.sampled_from(["MD", "TRADES", ".tmp", ""]),
            st.sampled_from(["time.01.01.25.bin", "x.bin", ".x.bin", "x.txt", "bin"]),
        ),
        st.integers(0, 4_000_000_000),
        max_size=12,
    )
)
def test_list_symbols_of_any_tree_equals_oracle(paths: dict[tuple[str, ...], int]) -> None:
    """All exchanges at once, each alone, and one that is not there."""
    with tempfile.TemporaryDirectory() as root:
        for path, modified_s in paths.items():
            touch(root, os.path.join(*path), modified_s)
        assert document(root) == naive_symbols(root)
        for exchange in ("BTC-USD", "^GSPC", "nowhere"):
            assert document(root, exchange) == naive_symbols(root, exchange)


@pytest.mark.parametrize(
    ("time_s", "date"),
    [
        (0, "1970-01-01 00:00:00"),
        (253_402_300_799, "9999-12-31 23:59:59"),
        (253_402_300_800, "9999-12-31 23:59:59"),
        (-62_135_596_800, "0001-01-01 00:00:00"),
        (-62_135_596_801, "0001-01-01 00:00:00"),
    ],
)
def test_date_text_ends_where_years_of_four_digits_do(time_s: int, date: str) -> None:
    """A time of 64 bits that nothing can format is the last or the first date instead."""
    assert date_text(time_s) == date


def test_what_is_hidden_is_neither_listed_nor_tells_a_time(tmp_path: Path) -> None:
    """As if exchanges, symbols and types that may not be seen were not there."""
    root = str(tmp_path)
    touch(root, "coinbase/A/MD/time.01.01.25.bin", 10)
    touch(root, "coinbase/A/MD/deeper/time.01.01.25.bin", 15)
    touch(root, "coinbase/A/BOOK/time.01.01.25.bin", 20)
    touch(root, "coinbase/A/loose.bin", 30)
    touch(root, "coinbase/B/BOOK/time.01.01.25.bin", 40)
    touch(root, "coinbase/C/MD/time.01.01.25.bin", 50)
    touch(root, "kraken/A/MD/time.01.01.25.bin", 60)

    def is_seen(exchange: str, symbol: str | None, type_: str | None) -> bool:
        return exchange == "coinbase" and symbol != "C" and type_ in (None, "MD")

    assert list_symbols(root, None, is_seen) == {"coinbase": [SymbolRecency("A", 15)]}
    assert list_symbols(root, "kraken", is_seen) == {"kraken": []}
    assert list_symbols(root, "coinbase", lambda *_: True)["coinbase"][0].symbol == "C"

"""The oracle: what the contract promises, computed in the slowest and most obvious way.

Owns a second reading of contract.md. It shares no code with the package and uses the standard
library only: every record is looked at, one by one, in file order. Nothing is searched, cached,
mapped or assumed sorted; when the server and this file differ, one of the two misreads the
contract.

How it reads what the contract leaves open:

- A day exists if any of its files does, whatever the column, and is considered if its UTC date
  intersects [start, end], even if none of its records do.
- A considered day that lacks a requested column, or `time` itself, is skipped whole and listed.
  That rule comes first: it also holds where the `time` file is empty.
- A symbolic link is as good as absent, for files and directories, and so are illegal names.
- A symbol without any `.bin` below it is not listed; an unknown exchange is listed, empty.
"""

from __future__ import annotations

import json
import os
import re
import struct
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NAME = re.compile(r"[A-Za-z0-9_^][A-Za-z0-9._:+@^=&#~-]{0,63}")
DAY_FILE = re.compile(r"(?P<column>.+)\.(?P<day>[0-9]{2}\.[0-9]{2}\.[0-9]{2})\.bin")
EPOCH = date(1970, 1, 1)
DAY = timedelta(days=1)
DTYPES = {"time": "u4", "side": "u4", "nanos": "u4", "count": "u4", "flags": "u4"}
OTHERS_DTYPE = "f4"  # of every column that neither `dtypes` nor DTYPES mentions


def naive_answer(  # noqa: PLR0917 - the parameters of the request, in its order
    root: str,
    exchange: str,
    symbol: str,
    type_: str,
    start: int,
    end: int,
    columns: Sequence[str],
    dtypes: Mapping[str, str] | None = None,
    last: int | None = None,
) -> bytes:
    """The exact body of `200` for this query; `dtypes` is what `[columns]` declares.

    With `last`, all records are looked at, and so many of them kept.
    """
    known = DTYPES | dict(dtypes or {})
    kinds = [known.get(column, OTHERS_DTYPE) for column in columns]
    sizes = [int(kind[1:]) for kind in kinds]
    selected: list[list[bytes]] = [[] for _ in columns]
    skipped = []
    folder = os.path.join(root, exchange, symbol, type_)
    for day, files in sorted(_days(folder).items()):
        midnight = (day - EPOCH) // DAY * 86_400
        if midnight > end or midnight + 86_399 < start:
            continue
        if not {"time", *columns} <= files.keys():
            skipped.append(f"{day:%d.%m.%y}")
            continue
        times = [struct.unpack("<I", item)[0] for item in _records(files["time"], 4)]
        day_columns = [
            _records(files[column], size) for column, size in zip(columns, sizes, strict=True)
        ]
        length = min(len(times), *map(len, day_columns))
        for index in range(length):
            if start <= times[index] <= end:
                for kept, records in zip(selected, day_columns, strict=True):
                    kept.append(records[index])
    if last is not None:
        selected = [kept[max(0, len(kept) - last) :] for kept in selected]
    header: dict[str, Any] = {
        "columns": [
            {
                "name": column,
                "record_size": size,
                "num_records": len(kept),
                "data_length": len(kept) * size,
                "dtype": ("|" if kind[0] == "S" or size == 1 else "<") + kind,
            }
            for column, kind, size, kept in zip(columns, kinds, sizes, selected, strict=True)
        ]
    }
    if skipped:
        header["skipped"] = skipped
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    return line + b"".join(b"".join(kept) for kept in selected)


def naive_symbols(root: str, exchange: str | None = None) -> dict[str, Any]:
    """The JSON object of /api/symbols, of all exchanges or of one."""
    listed: dict[str, list[dict[str, Any]]] = {}
    for name in _folders(root) if exchange is None else [exchange]:
        listed[name] = []
        folder = os.path.join(root, name)
        for symbol in _folders(folder):
            modified = [int(os.stat(path).st_mtime_ns // 10**9) for path in _bins(folder, symbol)]
            if modified:
                moment = datetime.fromtimestamp(max(modified), UTC)
                listed[name].append(
                    {
                        "symbol": symbol,
                        "last_update": max(modified),
                        "last_update_date": f"{moment:%Y-%m-%d %H:%M:%S} UTC",
                    }
                )
        listed[name].sort(key=lambda entry: (-entry["last_update"], entry["symbol"]))
    symbols = {entry["symbol"] for entries in listed.values() for entry in entries}
    return {"symbols": sorted(symbols), "exchanges": listed}


def _days(folder: str) -> dict[date, dict[str, str]]:
    """Path of each column of each day in a type's folder."""
    days: dict[date, dict[str, str]] = {}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        match = DAY_FILE.fullmatch(name)
        if match is None or not NAME.fullmatch(match["column"]):
            continue
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        day, month, year = map(int, match["day"].split("."))
        century = 1900 if year >= 70 else 2000
        try:
            key = date(century + year, month, day)
        except ValueError:
            continue  # no such day in any calendar, such as 31.02.25
        days.setdefault(key, {})[match["column"]] = path
    return days


def _records(path: str, size: int) -> list[bytes]:
    """The whole records of a file; a torn tail is ignored."""
    with open(path, "rb") as file:
        content = file.read()
    return [content[at : at + size] for at in range(0, len(content) - size + 1, size)]


def _folders(folder: str) -> list[str]:
    """Names of the folders that a query could spell."""
    if not os.path.isdir(folder):
        return []
    return sorted(
        name
        for name in os.listdir(folder)
        if NAME.fullmatch(name)
        and os.path.isdir(os.path.join(folder, name))
        and not os.path.islink(os.path.join(folder, name))
    )


def _bins(folder: str, symbol: str) -> Iterator[str]:
    """Every `.bin` anywhere below a symbol that is not hidden."""
    for below, folders, names in os.walk(os.path.join(folder, symbol)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(below, name)
            hidden = name.startswith(".")
            if name.endswith(".bin") and not hidden and not os.path.islink(path):
                yield path

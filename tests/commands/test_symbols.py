"""`zerocopy symbols --long`: a row a type, or /api/catalog's document a line."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.command_line import environment, run_forked
from tests.storage.trees import DAY, marks, put, u32

if TYPE_CHECKING:
    from pathlib import Path


def run(root: Path, *arguments: str, **environ: str) -> str:
    """What the command prints."""
    env = environment(**{"COLUMNS": "200", **environ})
    done = run_forked(["symbols", "--data-path", str(root), *arguments], env)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_long_list_tells_types_columns_and_days(tmp_path: Path) -> None:
    """Of each symbol; with --json the document of /api/catalog."""
    for day in (DAY, DAY + timedelta(days=2)):
        put(str(tmp_path), {"time": u32(9), "price": marks(1)}, day)
    table = run(tmp_path, "--long")
    for word in ("coinbase", "X", "MD", "2025-01-31", "2025-02-02", "time, price"):
        assert word in table
    document = json.loads(run(tmp_path, "--long", "--json"))
    assert document["types"]["MD"]["missing_days"] == ["2025-02-01"]
    assert "2025-01-31" not in run(tmp_path)


def test_long_list_is_whole_in_a_pipe(tmp_path: Path) -> None:
    """A line for each type, as words, however narrow the terminal is."""
    names = ["time", *(f"column_{number}" for number in range(20))]
    put(str(tmp_path), {name: u32(9) for name in names}, DAY)
    environ = {"COLUMNS": "40"}
    head, row = run(tmp_path, "--long", **environ).splitlines()
    assert head.split() == [
        "exchange",
        "symbol",
        "type",
        "days",
        "missing",
        "first",
        "last",
        "columns",
    ]
    expected = ["coinbase", "X", "MD", "1", "0", "2025-01-31", "2025-01-31"]
    assert row.replace(",", "").split() == [*expected, "time", *sorted(names[1:])]

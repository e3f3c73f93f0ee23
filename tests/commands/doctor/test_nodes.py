"""`zerocopy doctor --node`: what differs between nodes, by values and by real servers."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import column_path, make_root, seal
from tests.server import ForkedServer
from zerocopy.access.keys import add_key
from zerocopy.cli import main
from zerocopy.commands.doctor.finding import Verdict
from zerocopy.commands.doctor.nodes import SERIES_MAX, Node, _some, compare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zerocopy.commands.doctor.finding import Finding

A = Node("a", "", ready=True, series=frozenset({"x/A", "x/B"}), tags={"x/A": "1", "x/B": "2"})
B = replace(A, url="b")


def wrong(*nodes: Node) -> list[Finding]:
    """The findings that ask for a change."""
    return [finding for finding in compare(nodes) if finding.verdict is Verdict.CHANGE]


def test_equal_nodes_need_nothing() -> None:
    """Four findings and no change; a node alone is compared with nobody."""
    assert [finding.check for finding in compare([A, B])] == [
        "node a",
        "node b",
        "clocks",
        "series",
        "files",
    ]
    assert wrong(A, B) == []
    assert [finding.check for finding in compare([A])] == ["node a"]


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (replace(B, clock_s=7.0), "b is 7 s ahead of a"),
        (replace(B, clock_s=-90.0), "a is 90 s ahead of b"),
        (replace(B, series=frozenset({"x/A"})), "b lacks 1 of 2, such as x/B"),
        (replace(B, tags={"x/A": "9", "x/B": "2"}), "the first day of x/A has 2 different ETags"),
        (replace(B, tags={"x/A": "1"}), "the first day of x/B has 2 different ETags"),
        (replace(B, ready=False), "/readyz says that it is not ready"),
        (Node("b", "not reachable: refused"), "not reachable: refused"),
    ],
)
def test_what_differs_is_told_with_the_node(other: Node, found: str) -> None:
    """One finding for each difference, and none besides."""
    assert [finding.found for finding in wrong(A, other)] == [found]


def test_clocks_may_differ_by_what_a_date_cuts_off() -> None:
    """A Date field is whole seconds."""
    assert wrong(A, replace(B, clock_s=1.9)) == []


def test_series_to_compare_are_spread_over_all() -> None:
    """A bounded number, the first among them."""
    names = frozenset(f"x/{number:04}" for number in range(1_000))
    some = _some(names)
    assert len(some) == SERIES_MAX
    assert (some[0], some[-1]) == ("x/0000", "x/0950")
    assert _some(frozenset({"x/A"})) == ["x/A"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """Two nodes with roots of their own, the second of them a copy, and that copy."""
    one, other = (tmp_path_factory.mktemp(name) for name in ("one", "other"))
    make_root(one)
    seal(one, "SMALL")
    shutil.copytree(one, other, dirs_exist_ok=True)  # with the times, as rsync -t
    with ForkedServer(one) as first, ForkedServer(other) as second:
        yield f"http://127.0.0.1:{first.port}", f"http://127.0.0.1:{second.port}", other
    shutil.rmtree(one)
    shutil.rmtree(other)


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *urls: str
) -> tuple[int, dict[str, str]]:
    """The exit code, and what was found by check."""
    nodes = [word for url in urls for word in ("--node", url)]
    monkeypatch.setattr(sys, "argv", ["zerocopy", "doctor", "--json", *nodes])
    with pytest.raises(SystemExit) as end:
        main()
    findings = json.loads(capsys.readouterr().out)["findings"]
    return int(end.value.code or 0), {one["check"]: one["found"] for one in findings}


def test_real_nodes(
    servers: tuple[str, str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Copies with their times are equal; then a column differs, and a symbol is missing."""
    first, second, root = servers
    code, found = run(monkeypatch, capsys, first, second)
    assert code == 0
    assert found["series"] == "the same 1 on all nodes"
    assert found["files"] == "the same ETags for 1 series"
    assert found["clocks"] == "within 2 s"
    with open(column_path(root, "LARGE", "time"), "ab") as file:
        file.write(bytes(4))
    with open(column_path(root, "LARGE", "price"), "ab") as file:
        file.write(bytes(4))
    code, found = run(monkeypatch, capsys, first, second)
    assert code == 1
    assert found["files"] == "the first day of coinbase/BTC-USD has 2 different ETags"
    (root / "coinbase").rename(root / "kraken")
    code, found = run(monkeypatch, capsys, first, second)
    assert code == 1
    assert found["series"].endswith("lacks 1 of 2, such as kraken/BTC-USD") or found[
        "series"
    ].endswith("lacks 1 of 2, such as coinbase/BTC-USD")
    code, found = run(monkeypatch, capsys, first, "http://127.0.0.1:9")
    assert code == 1
    assert found["node http://127.0.0.1:9"] == "not reachable: Connection refused"


def test_node_that_asks_for_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without one it says so; with $ZEROCOPY_KEY it is compared as any other."""
    (tmp_path / "root").mkdir()
    make_root(tmp_path / "root")
    key = add_key(str(tmp_path / "keys.json"), "doctor")
    monkeypatch.delenv("ZEROCOPY_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")
    with ForkedServer(
        tmp_path / "root", ZEROCOPY_AUTH_KEYS_PATH=str(tmp_path / "keys.json")
    ) as server:
        url = f"http://127.0.0.1:{server.port}"
        code, found = run(monkeypatch, capsys, url)
        assert code == 1
        assert found[f"node {url}"].startswith("asks for a key: give a key")
        monkeypatch.setenv("ZEROCOPY_KEY", key)
        assert run(monkeypatch, capsys, url) == (0, {f"node {url}": "ready, 1 series"})


def test_wrong_url_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2."""
    monkeypatch.setattr(sys, "argv", ["zerocopy", "doctor", "--node", "localhost:8080"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "--node: must be http://host:port" in capsys.readouterr().err

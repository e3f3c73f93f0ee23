"""What becomes of kept heads and of who may ask when the key file changes or breaks."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from tests.service.guard.bench import GUARDED, SCOPE, SEEN, GuardedBench, make_root
from zerocopy.access.keys import revoke_key
from zerocopy.core import counters as slots
from zerocopy.observe.named_counters import totals

if TYPE_CHECKING:
    from pathlib import Path


def test_known_head_is_answered_at_once_until_its_key_is_revoked(tmp_path: Path) -> None:
    """A kept answer is reused for it; then it is a 401, and so is the same head ever after."""
    make_root(tmp_path / "root", SEEN)
    bench = GuardedBench(tmp_path / "root", tmp_path / "keys.json")
    key, other = bench.add("desk", SCOPE), bench.add("ops")
    reused = bench.inner.counters
    deadline, first = time.monotonic() + 30, bench.ask(GUARDED[0], key)
    # It is kept once its files are older than a tick of the kernel's clock; see catalog.RACY_NS.
    while (again := bench.ask(GUARDED[0], key)) is not first:
        assert time.monotonic() < deadline
        first = again
    assert reused[slots.PLANS_REUSED] == 1
    assert bench.ask(GUARDED[0], other) is first, "a plan is nobody's own"
    assert bench.ask(GUARDED[0], None).status == 401
    revoke_key(bench.keys_path, "desk")
    bench.look()
    assert bench.ask(GUARDED[0], key).status == 401
    assert bench.ask(GUARDED[0], other) is first
    bench.close()


def test_key_whose_scope_shrinks_loses_what_it_had_seen(tmp_path: Path) -> None:
    """The heads that were known with the old scope are judged anew."""
    make_root(tmp_path / "root", SEEN)
    bench = GuardedBench(tmp_path / "root", tmp_path / "keys.json")
    key = bench.add("desk")
    for _ in range(2):
        assert bench.ask(GUARDED[0], key).status == 200
    path = tmp_path / "keys.json"
    document = json.loads(path.read_text("utf-8"))
    document["keys"][0]["symbols"] = ["ETH-*"]
    path.write_text(json.dumps(document), "utf-8")
    bench.look()
    assert bench.ask(GUARDED[0], key).status == 404
    bench.close()


def test_names_are_counted_and_logged_and_keys_never(tmp_path: Path) -> None:
    """What was asked for by whom, what was refused; who added and who revoked."""
    make_root(tmp_path / "root", SEEN)
    bench = GuardedBench(tmp_path / "root", tmp_path / "keys.json")
    with capture_logs() as logs:
        key = bench.add("desk", SCOPE)
    told = [(log["event"], log["added"], log["revoked"], log["keys"]) for log in logs]
    assert told == [("keys_changed", ["desk"], [], 1)]
    assert key not in str(logs)
    assert bench.ask("/api/catalog?symbol=ETH-USD", key).status == 404
    assert bench.pending is not None
    assert bench.pending.grant is not None
    assert bench.pending.grant.name == "desk"
    bench.guard.tally(bench.pending.grant, 10, 3)
    assert totals(bench.names_fd)["desk"] == (3, 30, 1)
    assert bench.inner.counters[slots.KEYS] == 1
    revoke_key(bench.keys_path, "desk")
    with capture_logs() as logs:
        bench.look()
        bench.look()
    assert [(log["event"], log["revoked"]) for log in logs] == [("keys_changed", ["desk"])]
    bench.close()


def test_broken_key_file_keeps_the_old_keys_and_is_told_of_once(tmp_path: Path) -> None:
    """One line for each fault, a metric while it lasts, and the good file ends it."""
    make_root(tmp_path / "root", SEEN)
    bench = GuardedBench(tmp_path / "root", tmp_path / "keys.json")
    key = bench.add("desk")
    good = (tmp_path / "keys.json").read_bytes()
    with capture_logs() as logs:
        (tmp_path / "keys.json").write_bytes(b"{")
        bench.look()
        bench.look()
        assert bench.inner.counters[slots.KEYS_UNREADABLE] == 1
        assert bench.ask(GUARDED[0], key).status == 200
        (tmp_path / "keys.json").write_bytes(good)
        bench.look()
    assert [log["event"] for log in logs] == ["keys_not_read"]
    assert logs[0]["keys"] == 1
    assert bench.inner.counters[slots.KEYS_UNREADABLE] == 0
    bench.close()


def test_worker_that_starts_amid_a_broken_file_lets_nobody_in_until_it_is_right(
    tmp_path: Path,
) -> None:
    """It starts all the same: the others serve on with the keys that they have."""
    make_root(tmp_path / "root", SEEN)
    bench = GuardedBench(tmp_path / "root", tmp_path / "keys.json")
    with capture_logs() as logs:
        bench.guard.load()
    assert [log["event"] for log in logs] == ["keys_not_read"]
    assert bench.ask(GUARDED[0], "zc_any").status == 401
    assert bench.ask("/healthz", None).status == 200
    assert bench.ask(GUARDED[0], bench.add("desk")).status == 200
    bench.close()

"""The slots a worker counts in: names, labels and positions that agree."""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

import pytest

from zerocopy.core import counters
from zerocopy.core.counters import SLOTS

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters

POSITIONS = [
    ("SENT_BYTES_SENDFILE", "zerocopy_sent_bytes", (("path", "sendfile"),)),
    ("SENT_BYTES_COPY", "zerocopy_sent_bytes", (("path", "copy"),)),
    ("CONNECTIONS_ACCEPTED", "zerocopy_connections_accepted", ()),
    ("CONNECTIONS_REFUSED", "zerocopy_connections_refused", ()),
    ("CONNECTIONS", "zerocopy_connections", ()),
    ("TRANSFERS_ABORTED", "zerocopy_transfers_aborted", ()),
    ("PLANS_MADE", "zerocopy_plans_made", ()),
    ("PLANS_REUSED", "zerocopy_plans_reused", ()),
    ("PLAN_CACHE_BYTES", "zerocopy_plan_cache_bytes", ()),
    ("OPEN_FILES", "zerocopy_open_files", ()),
    ("DAYS_SKIPPED", "zerocopy_days_skipped", ()),
    ("MAPPED_BYTES", "zerocopy_mapped_bytes", ()),
    ("LOCKED_BYTES", "zerocopy_locked_bytes", ()),
    ("WATCHED_DIRECTORIES", "zerocopy_watched_directories", ()),
    ("SYMBOL_WALKS", "zerocopy_symbol_walks", ()),
    ("COLD_READS", "zerocopy_cold_reads", ()),
    ("COLD_BYTES", "zerocopy_cold_bytes", ()),
]


@pytest.mark.parametrize(("constant", "name", "labels"), POSITIONS)
def test_slot_constant_points_at_the_slot_it_is_named_after(
    constant: str, name: str, labels: tuple[tuple[str, str], ...]
) -> None:
    """A number counted in another's slot would never be noticed elsewhere."""
    slot = SLOTS[getattr(counters, constant)]
    assert (slot.name, slot.labels) == (name, labels)


@pytest.mark.parametrize("status", [200, 204, 304, 404, 431, 500, 503])
def test_responses_slot_is_that_of_the_class_of_the_status(status: int) -> None:
    """The documented sum: first slot, plus hundreds, minus two."""
    slot = SLOTS[counters.RESPONSES_2XX + status // 100 - 2]
    assert slot.name == "zerocopy_responses"
    assert slot.labels == (("status", f"{status // 100}xx"),)


def test_every_slot_has_a_constant() -> None:
    """Responses take four slots from their constant on, every other slot has its own."""
    constants = {
        value for name, value in vars(counters).items() if name.isupper() and name != "SLOTS"
    }
    integers = {value for value in constants if isinstance(value, int)}
    assert integers | {1, 2, 3} == set(range(len(SLOTS)))
    assert len(POSITIONS) + 4 == len(SLOTS)


def test_slots_are_named_as_prometheus_wants() -> None:
    """One series a slot, base units, one kind and one help a name, `_total` left to the format."""
    assert len({(slot.name, slot.labels) for slot in SLOTS}) == len(SLOTS)
    kinds = {(slot.name, slot.kind, slot.help) for slot in SLOTS}
    assert len(kinds) == len({slot.name for slot in SLOTS})
    for slot in SLOTS:
        assert re.fullmatch(r"zerocopy(_[a-z]+)+", slot.name)
        assert not slot.name.endswith("_total")
        assert slot.kind in {"counter", "gauge"}
        assert slot.help.endswith(".")


def test_counters_may_be_any_row_of_integers() -> None:
    """An array of u64, as in shared memory, and a plain list are counted in alike."""
    rows: list[Counters] = [array("Q", bytes(8 * len(SLOTS))), [0] * len(SLOTS)]
    for row in rows:
        row[counters.PLANS_MADE] += 2
        assert row[counters.PLANS_MADE] == 2

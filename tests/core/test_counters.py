"""The slots a worker counts in: names, labels and positions that agree."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING

from tests.table import each
from zerocopy.core import counters
from zerocopy.core.counters import (
    HISTOGRAMS,
    LOOP_LAG,
    PLAIN,
    SLOTS,
    STATUSES,
    TLS,
    TRANSPORTS,
    duration_of,
    observe,
    requests_slot,
)
from zerocopy.core.endpoints import NAMES
from zerocopy.core.http.messages import REASONS

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters

POSITIONS = [
    ("SENT_BYTES_SENDFILE", "zerocopy_sent_bytes", (("path", "sendfile"),)),
    ("SENT_BYTES_COPY", "zerocopy_sent_bytes", (("path", "copy"),)),
    ("CONNECTIONS_ACCEPTED", "zerocopy_connections_accepted", ()),
    ("CONNECTIONS_REFUSED", "zerocopy_connections_refused", ()),
    ("CONNECTIONS", "zerocopy_connections", (("transport", "plain"),)),
    ("KERNEL_TLS", "zerocopy_kernel_tls_connections", ()),
    ("TRANSFERS_ABORTED", "zerocopy_transfers_aborted", ()),
    ("PLANS_MADE", "zerocopy_plans_made", ()),
    ("PLANS_REUSED", "zerocopy_plans_reused", ()),
    ("PLAN_CACHE_BYTES", "zerocopy_plan_cache_bytes", ()),
    ("ANSWERS_COMPUTED", "zerocopy_answers_computed", ()),
    ("SPOOL_BYTES", "zerocopy_spool_bytes", ()),
    ("OPEN_FILES", "zerocopy_open_files", ()),
    ("DAYS_SKIPPED", "zerocopy_days_skipped", ()),
    ("DAYS_UNEVEN", "zerocopy_days_unsound", (("reason", "uneven"),)),
    ("DAYS_OUTSIDE", "zerocopy_days_unsound", (("reason", "outside"),)),
    ("DAYS_UNSORTED", "zerocopy_days_unsound", (("reason", "unsorted"),)),
    ("MAPPED_BYTES", "zerocopy_mapped_bytes", ()),
    ("LOCKED_BYTES", "zerocopy_locked_bytes", ()),
    ("WATCHED_DIRECTORIES", "zerocopy_watched_directories", ()),
    ("SYMBOL_WALKS", "zerocopy_symbol_walks", ()),
    ("COLD_READS", "zerocopy_cold_reads", ()),
    ("COLD_BYTES", "zerocopy_cold_bytes", ()),
    ("ROLLUPS_USED", "zerocopy_rollups_used", ()),
    ("ROLLUPS_MADE", "zerocopy_rollups_made", ()),
    ("ROLLUP_BYTES", "zerocopy_rollup_bytes", ()),
    ("ROLLUP_FILE_BYTES", "zerocopy_rollup_file_bytes", ()),
    ("ROLLUP_FILES_DELETED", "zerocopy_rollup_files_deleted", ()),
    ("STORE_LISTINGS", "zerocopy_store_listings", ()),
    ("STORE_FETCHES", "zerocopy_store_fetches", ()),
    ("STORE_FAILURES", "zerocopy_store_failures", ()),
    ("STORE_BYTES", "zerocopy_store_bytes", ()),
    ("STORE_CACHE_HITS", "zerocopy_store_cache_hits", ()),
    ("STORE_CACHE_BYTES", "zerocopy_store_cache_bytes", ()),
    ("STORE_CACHE_DELETED", "zerocopy_store_cache_deleted", ()),
    ("STORE_CACHE_CHECKED", "zerocopy_store_cache_checked", ()),
    ("STORE_CACHE_RUINED", "zerocopy_store_cache_ruined", ()),
    ("LIVE_SUBSCRIBERS", "zerocopy_live_subscribers", ()),
    ("LIVE_SERIES", "zerocopy_live_series", ()),
    ("LIVE_MESSAGES", "zerocopy_live_messages", ()),
    ("LIVE_RECORDS", "zerocopy_live_records", ()),
    ("LIVE_RESETS", "zerocopy_live_resets", ()),
    ("LIVE_LOOKS", "zerocopy_live_looks", ()),
    ("LIVE_POLLS", "zerocopy_live_polls", ()),
    ("LIVE_ANNOUNCEMENTS", "zerocopy_live_announcements", ()),
    ("LIVE_HINTED", "zerocopy_live_hinted_looks", ()),
    ("STREAMS", "zerocopy_streams", ()),
    ("REQUESTS_IN_FLIGHT", "zerocopy_requests_in_flight", ()),
    ("KEYS", "zerocopy_keys", ()),
    ("KEYS_UNREADABLE", "zerocopy_keys_unreadable", ()),
    ("LIMITED_REQUESTS", "zerocopy_requests_limited", (("policy", "requests"),)),
    ("LIMITED_BYTES", "zerocopy_requests_limited", (("policy", "bytes"),)),
    ("LIMITED_STREAMS", "zerocopy_requests_limited", (("policy", "streams"),)),
    ("LIMITED_ADDRESS", "zerocopy_requests_limited", (("policy", "address"),)),
    ("LIMITED_AWAY", "zerocopy_requests_limited", (("policy", "away"),)),
    ("LIMITS_FORGOTTEN", "zerocopy_limits_forgotten", ()),
    ("LOG_LINES_DROPPED", "zerocopy_log_lines_dropped", ()),
    ("LOG_LINES_SUPPRESSED", "zerocopy_log_lines_suppressed", ()),
]


def test_slot_constant_points_at_the_slot_it_is_named_after() -> None:
    """A number counted in another's slot would never be noticed elsewhere."""
    for constant, name, labels in POSITIONS:
        slot = SLOTS[getattr(counters, constant)]
        assert (slot.name, slot.labels) == (name, labels), constant


def test_connections_have_a_slot_for_each_transport() -> None:
    """The one that is documented: the first, plus the transport."""
    for transport, name in enumerate(TRANSPORTS):
        slot = SLOTS[counters.CONNECTIONS + transport]
        assert (slot.name, slot.labels) == ("zerocopy_connections", (("transport", name),))


def test_requests_have_a_slot_for_each_transport_endpoint_and_status() -> None:
    """Every status there is has one, and only those that have no label of their own share it."""
    seen = Counter[int]()
    for transport, endpoint in product(range(len(TRANSPORTS)), range(len(NAMES))):
        for status in REASONS:
            slot = requests_slot(transport, endpoint, status)
            seen[slot] += 1
            assert SLOTS[slot].name == "zerocopy_requests"
            assert dict(SLOTS[slot].labels) == {
                "transport": TRANSPORTS[transport],
                "endpoint": NAMES[endpoint],
                "status": str(status) if status in STATUSES else "other",
            }
    others = len(REASONS) - len(STATUSES)
    assert Counter(seen.values()) == {1: 22 * len(STATUSES), others: 22}


def test_histograms_lie_side_by_side_behind_the_requests() -> None:
    """Their slots are the buckets, one more without an end, and the sum; nothing overlaps."""
    first = requests_slot(1, len(NAMES) - 1, 0) + 1
    for histogram in HISTOGRAMS:
        assert histogram.first == first
        assert list(histogram.bounds_ns) == sorted(set(histogram.bounds_ns))
        buckets = len(histogram.bounds_ns) + 1
        here = SLOTS[first : first + buckets + 1]
        assert [slot.kind for slot in here] == ["bucket"] * buckets + ["sum"]
        assert {(slot.name, slot.labels) for slot in here} == {(histogram.name, histogram.labels)}
        first += buckets + 1
    assert first == len(SLOTS)


@each("transport", [PLAIN, TLS])
@each(("endpoint", "label"), list(enumerate(["data", "symbols", *["other"] * 4])))
def test_durations_are_told_apart_for_data_and_symbols(
    transport: int, endpoint: int, label: str
) -> None:
    """The others, which are all answered at once, share a histogram."""
    histogram = duration_of(transport, endpoint)
    assert histogram.name == "zerocopy_request_duration_seconds"
    assert histogram.labels == (("transport", TRANSPORTS[transport]), ("endpoint", label))


def test_observation_falls_into_the_first_bucket_that_holds_it() -> None:
    """The upper end of a bucket belongs to it (`le`); what no bucket holds goes to the last."""
    for index, bound_ns in enumerate(LOOP_LAG.bounds_ns):
        for value_ns, bucket in [(bound_ns, index), (bound_ns + 1, index + 1)]:
            row = [0] * len(SLOTS)
            observe(row, LOOP_LAG, value_ns, 3)
            assert row[LOOP_LAG.first + bucket] == 3
            assert row[LOOP_LAG.first + len(LOOP_LAG.bounds_ns) + 1] == 3 * value_ns
            assert sum(row) == 3 + 3 * value_ns


def test_every_single_slot_has_a_constant() -> None:
    """Connections take two slots from their constant on; requests and histograms come after."""
    skipped = {"PLAIN", "TLS", "REQUESTS"}
    integers = {
        value
        for name, value in vars(counters).items()
        if name.isupper() and isinstance(value, int) and name not in skipped
    }
    assert integers | {counters.CONNECTIONS + 1} == set(range(counters.REQUESTS))
    assert len(POSITIONS) + 1 == counters.REQUESTS


def test_slots_are_named_as_prometheus_wants() -> None:
    """One series a slot, base units, one help a name, `_total` left to the format."""
    single = [slot for slot in SLOTS if slot.kind in {"counter", "gauge", "shared"}]
    assert len({(slot.name, slot.labels) for slot in single}) == len(single)
    texts = {(slot.name, slot.help) for slot in SLOTS}
    assert len(texts) == len({slot.name for slot in SLOTS})
    for slot in SLOTS:
        assert re.fullmatch(r"zerocopy(_[a-z]+)+", slot.name)
        assert not slot.name.endswith("_total")
        assert slot.kind in {"counter", "gauge", "shared", "bucket", "sum"}
        assert slot.help.endswith(".")


def test_counters_may_be_any_row_of_integers() -> None:
    """An array of u64, as in shared memory, and a plain list are counted in alike."""
    rows: list[Counters] = [array("Q", bytes(8 * len(SLOTS))), [0] * len(SLOTS)]
    for row in rows:
        row[counters.PLANS_MADE] += 2
        assert row[counters.PLANS_MADE] == 2

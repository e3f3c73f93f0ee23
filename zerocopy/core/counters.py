"""The numbers a worker counts: one slot each in an array that outlives it.

Owns the list of slots and their meaning, nothing else. A worker is handed any mutable sequence of
ints (the supervisor gives it shared memory) and adds to it in place, so that counting costs an
index and an addition, and a scrape costs the worker nothing.

A histogram is some slots in a row: one for each bucket, each counting what the one before did not,
and the sum of all that was observed, in nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple, Protocol

from zerocopy.core import endpoints


class Counters(Protocol):
    """A fixed row of unsigned 64-bit numbers."""

    def __getitem__(self, slot: int, /) -> int:
        """The number in a slot."""

    def __setitem__(self, slot: int, value: int, /) -> None:
        """Set the number in a slot."""


Labels = tuple[tuple[str, str], ...]


class Slot(NamedTuple):
    """What one slot counts; `labels` are from small fixed sets.

    `kind` is counter or gauge, or bucket or sum of a histogram. Of a shared gauge all workers tell
    the same, so the largest value counts and not their sum.
    """

    kind: str
    name: str
    labels: Labels
    help: str


class Histogram(NamedTuple):
    """Where one histogram lies: the buckets from `first` on, then the sum.

    `bounds_ns` are the upper ends of all buckets but the last, which has none.
    """

    name: str
    labels: Labels
    help: str
    first: int
    bounds_ns: tuple[int, ...]


TRANSPORTS = ("plain", "tls")
PLAIN, TLS = 0, 1
"""How requests and connections come in; indexes `TRANSPORTS`."""

STATUSES = (101, 200, 204, 206, 304, 400, 401, 404, 405, 412, 414, 416, 429, 431, 500, 503)
"""Statuses with their own time series. All others (we send 417, 426, 501, 505) share one."""

DURATION_BOUNDS_S = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
    2.5, 10, 30,
)  # fmt: skip
"""From a response that was given before to a month of ticks for a slow client."""

LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
"""The loop's timers count milliseconds, so below one there is nothing to tell apart."""

LIVE_LAG_BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
)  # fmt: skip
"""From one reader to ten thousand of one append."""

_BYTES_HELP = "Bytes given to the kernel for clients, by how they got there."
_CONNECTIONS_HELP = "Connections open now, those that are being told 503 among them."
_REQUESTS_HELP = "Requests whose status line was sent."
_DURATION_HELP = (
    "Seconds from reading the end of a request's head from its socket to giving the last byte of "
    "its answer to the kernel (plain) or to TLS (tls). Requests that one read brought are answered "
    "one after another, and each counts from that read. Answers that were cut off are left out."
)
_LAG_HELP = (
    "Seconds by which a timer of a worker's event loop ran late, four times a second for each "
    "listener."
)
_LIVE_LAG_HELP = (
    "Seconds from seeing that a day has grown to handing the newest records to a connection of "
    "/api/live."
)

_single: list[Slot] = []


def _slot(kind: str, name: str, text: str, labels: Labels = ()) -> int:
    """Append a slot of its own; its place in the row."""
    _single.append(Slot(kind, name, labels, text))
    return len(_single) - 1


SENT_BYTES_SENDFILE = _slot("counter", "zerocopy_sent_bytes", _BYTES_HELP, (("path", "sendfile"),))
SENT_BYTES_COPY = _slot("counter", "zerocopy_sent_bytes", _BYTES_HELP, (("path", "copy"),))
CONNECTIONS_ACCEPTED = _slot("counter", "zerocopy_connections_accepted", "Connections accepted.")
CONNECTIONS_REFUSED = _slot(
    "counter", "zerocopy_connections_refused", "Connections answered 503 at the bound."
)
CONNECTIONS = _slot("gauge", "zerocopy_connections", _CONNECTIONS_HELP, (("transport", "plain"),))
"""The first of two: slot `CONNECTIONS + transport`."""
_CONNECTIONS_TLS = _slot(
    "gauge", "zerocopy_connections", _CONNECTIONS_HELP, (("transport", "tls"),)
)
KERNEL_TLS = _slot(
    "counter", "zerocopy_kernel_tls_connections", "TLS connections that the kernel encrypts."
)
TRANSFERS_ABORTED = _slot(
    "counter", "zerocopy_transfers_aborted", "Responses cut off after their status line."
)
PLANS_MADE = _slot("counter", "zerocopy_plans_made", "Plans made from the files.")
PLANS_REUSED = _slot("counter", "zerocopy_plans_reused", "Plans proved unchanged and used again.")
PLAN_CACHE_BYTES = _slot("gauge", "zerocopy_plan_cache_bytes", "Memory the reusable plans take.")
ANSWERS_COMPUTED = _slot(
    "counter", "zerocopy_answers_computed", "Answers encoded in json, csv or parquet."
)
SPOOL_BYTES = _slot("gauge", "zerocopy_spool_bytes", "Bytes that computed answers take now.")
OPEN_FILES = _slot("gauge", "zerocopy_open_files", "Day files open now.")
DAYS_SKIPPED = _slot(
    "counter", "zerocopy_days_skipped", "Days left out because they lack a column."
)
_UNSOUND_HELP = "Days met by queries that zerocopy verify complains about, by its word."
DAYS_UNEVEN = _slot("counter", "zerocopy_days_unsound", _UNSOUND_HELP, (("reason", "uneven"),))
DAYS_OUTSIDE = _slot("counter", "zerocopy_days_unsound", _UNSOUND_HELP, (("reason", "outside"),))
DAYS_UNSORTED = _slot("counter", "zerocopy_days_unsound", _UNSOUND_HELP, (("reason", "unsorted"),))
MAPPED_BYTES = _slot("gauge", "zerocopy_mapped_bytes", "Bytes of day files mapped now.")
LOCKED_BYTES = _slot("gauge", "zerocopy_locked_bytes", "Bytes of day files locked into memory now.")
WATCHED_DIRECTORIES = _slot(
    "gauge", "zerocopy_watched_directories", "Directories watched for /api/symbols."
)
SYMBOL_WALKS = _slot(
    "counter", "zerocopy_symbol_walks", "Walks over the data root for /api/symbols."
)
COLD_READS = _slot(
    "counter", "zerocopy_cold_reads", "Windows of answers read from the disk by threads."
)
COLD_BYTES = _slot(
    "counter", "zerocopy_cold_bytes", "Bytes of them that were not in the page cache."
)
ROLLUPS_USED = _slot(
    "counter", "zerocopy_rollups_used", "Columns of days whose bars came from a roll-up."
)
ROLLUPS_MADE = _slot("counter", "zerocopy_rollups_made", "Roll-ups made in the background.")
ROLLUP_BYTES = _slot("gauge", "zerocopy_rollup_bytes", "Memory that roll-ups take.")
ROLLUP_FILE_BYTES = _slot(
    "shared",
    "zerocopy_rollup_file_bytes",
    "Bytes of files of roll-ups below [rollups] path, when a worker last looked.",
)
ROLLUP_FILES_DELETED = _slot(
    "counter",
    "zerocopy_rollup_files_deleted",
    "Files of roll-ups deleted because all of them were above [rollups] disk_bytes_max.",
)
STORE_LISTINGS = _slot(
    "counter", "zerocopy_store_listings", "Listings that the object store was asked for."
)
STORE_FETCHES = _slot(
    "counter", "zerocopy_store_fetches", "Files that the object store was asked for."
)
STORE_FAILURES = _slot(
    "counter", "zerocopy_store_failures", "Files of the object store that could not be fetched."
)
STORE_BYTES = _slot("counter", "zerocopy_store_bytes", "Bytes of files fetched from it.")
STORE_CACHE_HITS = _slot(
    "counter", "zerocopy_store_cache_hits", "Files of the object store that were in the cache."
)
STORE_CACHE_BYTES = _slot(
    "shared",
    "zerocopy_store_cache_bytes",
    "Bytes of files below [s3] cache_path, when a worker last looked.",
)
STORE_CACHE_DELETED = _slot(
    "counter",
    "zerocopy_store_cache_deleted",
    "Files deleted because all of them were above [s3] cache_bytes_max.",
)
STORE_CACHE_CHECKED = _slot(
    "counter",
    "zerocopy_store_cache_checked",
    "Files of the cache that were read through after a start, and are whole.",
)
STORE_CACHE_RUINED = _slot(
    "counter",
    "zerocopy_store_cache_ruined",
    "Files of the cache whose content was not what was fetched; they were deleted.",
)
LIVE_SUBSCRIBERS = _slot("gauge", "zerocopy_live_subscribers", "Readers of /api/live now.")
LIVE_SERIES = _slot(
    "gauge", "zerocopy_live_series", "Series and columns that somebody reads by /api/live."
)
LIVE_MESSAGES = _slot("counter", "zerocopy_live_messages", "Messages of /api/live handed out.")
LIVE_RECORDS = _slot("counter", "zerocopy_live_records", "Records in them.")
LIVE_RESETS = _slot(
    "counter", "zerocopy_live_resets", "Streams ended because a day shrank or was replaced."
)
LIVE_LOOKS = _slot("counter", "zerocopy_live_looks", "Looks at the files of a day for /api/live.")
LIVE_POLLS = _slot(
    "counter",
    "zerocopy_live_polls",
    "Looks that no event asked for: once a second, or at each poll.",
)
LIVE_ANNOUNCEMENTS = _slot(
    "counter",
    "zerocopy_live_announcements",
    "Messages of [live] announce that came, to each worker.",
)
LIVE_HINTED = _slot(
    "counter", "zerocopy_live_hinted_looks", "Looks that one of them caused, at most ten a second."
)
STREAMS = _slot("gauge", "zerocopy_streams", "HTTP/2 streams whose answer waits or is being sent.")
REQUESTS_IN_FLIGHT = _slot(
    "gauge",
    "zerocopy_requests_in_flight",
    "Requests that wait for a thread, the disk, or for their client to take the answer.",
)
KEYS = _slot("shared", "zerocopy_keys", "API keys that hold.")
KEYS_UNREADABLE = _slot(
    "shared", "zerocopy_keys_unreadable", "1 while a file of [auth] cannot be read; old keys hold."
)
_LIMITED_HELP = (
    "Requests refused by a limit of [auth], by its policy; away: nobody could count them."
)
LIMITED_REQUESTS = _slot(
    "counter", "zerocopy_requests_limited", _LIMITED_HELP, (("policy", "requests"),)
)
LIMITED_BYTES = _slot("counter", "zerocopy_requests_limited", _LIMITED_HELP, (("policy", "bytes"),))
LIMITED_STREAMS = _slot(
    "counter", "zerocopy_requests_limited", _LIMITED_HELP, (("policy", "streams"),)
)
LIMITED_ADDRESS = _slot(
    "counter", "zerocopy_requests_limited", _LIMITED_HELP, (("policy", "address"),)
)
LIMITED_AWAY = _slot("counter", "zerocopy_requests_limited", _LIMITED_HELP, (("policy", "away"),))
LIMITED = {
    "requests": LIMITED_REQUESTS,
    "bytes": LIMITED_BYTES,
    "streams": LIMITED_STREAMS,
    "address": LIMITED_ADDRESS,
    "away": LIMITED_AWAY,
}
"""By policy; away: a limit could not be counted."""

LIMITS_FORGOTTEN = _slot(
    "counter",
    "zerocopy_limits_forgotten",
    "Names whose count was given up before its window ended, for want of room.",
)
LOG_LINES_DROPPED = _slot(
    "counter",
    "zerocopy_log_lines_dropped",
    "Lines of the log that nobody took from a worker in time; they are lost.",
)
LOG_LINES_SUPPRESSED = _slot(
    "counter",
    "zerocopy_log_lines_suppressed",
    "Lines of the log that were not written because the same event came too often.",
)

REQUESTS = len(_single)
"""The first of all slots of requests; `requests_slot` finds the others."""

_STATUS_LABELS = (*map(str, STATUSES), "other")
_TIMED = ("data", "symbols", "other")


def requests_slot(transport: int, endpoint: int, status: int) -> int:
    """The slot that counts requests of a transport and an endpoint with a status."""
    place = STATUSES.index(status) if status in STATUSES else len(STATUSES)
    row = transport * len(endpoints.NAMES) + endpoint
    return REQUESTS + row * len(_STATUS_LABELS) + place


def _requests() -> tuple[Slot, ...]:
    return tuple(
        Slot(
            "counter",
            "zerocopy_requests",
            (("transport", transport), ("endpoint", endpoint), ("status", status)),
            _REQUESTS_HELP,
        )
        for transport in TRANSPORTS
        for endpoint in endpoints.NAMES
        for status in _STATUS_LABELS
    )


def _histograms(first: int) -> tuple[Histogram, ...]:
    """All histograms, the slots of each after those of the one before."""
    kinds: list[tuple[str, Labels, str, tuple[float, ...]]] = [
        (
            "zerocopy_request_duration_seconds",
            (("transport", transport), ("endpoint", endpoint)),
            _DURATION_HELP,
            DURATION_BOUNDS_S,
        )
        for transport in TRANSPORTS
        for endpoint in _TIMED
    ]
    kinds.append(("zerocopy_loop_lag_seconds", (), _LAG_HELP, LAG_BOUNDS_S))
    kinds.append(("zerocopy_live_lag_seconds", (), _LIVE_LAG_HELP, LIVE_LAG_BOUNDS_S))
    histograms = []
    for name, labels, text, bounds_s in kinds:
        bounds_ns = tuple(round(bound * 1e9) for bound in bounds_s)
        histograms.append(Histogram(name, labels, text, first, bounds_ns))
        first += len(bounds_ns) + 2
    return tuple(histograms)


HISTOGRAMS = _histograms(REQUESTS + len(TRANSPORTS) * len(endpoints.NAMES) * len(_STATUS_LABELS))
LOOP_LAG, LIVE_LAG = HISTOGRAMS[-2:]


def duration_of(transport: int, endpoint: int) -> Histogram:
    """The histogram of the durations of requests; all but data and symbols share one."""
    return HISTOGRAMS[transport * len(_TIMED) + min(endpoint, len(_TIMED) - 1)]


def observe(counters: Counters, histogram: Histogram, value_ns: int, times: int = 1) -> None:
    """Note that something took `value_ns`, so many times."""
    first, bounds_ns = histogram.first, histogram.bounds_ns
    counters[first + bisect_left(bounds_ns, value_ns)] += times
    counters[first + len(bounds_ns) + 1] += value_ns * times


SLOTS: tuple[Slot, ...] = (
    *_single,
    *_requests(),
    *(
        Slot(kind, histogram.name, histogram.labels, histogram.help)
        for histogram in HISTOGRAMS
        for kind in [*["bucket"] * (len(histogram.bounds_ns) + 1), "sum"]
    ),
)
"""Every slot of a row, in its place."""

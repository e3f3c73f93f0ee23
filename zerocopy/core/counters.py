"""The numbers a worker counts: one slot each in an array that outlives it.

Owns the list of slots and their meaning, nothing else. A worker is handed any mutable sequence of
ints (the supervisor gives it shared memory) and adds to it in place, so that counting costs an
index and an addition, and a scrape costs the worker nothing.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Counters(Protocol):
    """A fixed row of unsigned 64-bit numbers."""

    def __getitem__(self, slot: int, /) -> int:
        """The number in a slot."""

    def __setitem__(self, slot: int, value: int, /) -> None:
        """Set the number in a slot."""


class Slot(NamedTuple):
    """What one slot counts; `labels` are from small fixed sets. `kind` is counter or gauge."""

    kind: str
    name: str
    labels: tuple[tuple[str, str], ...]
    help: str


_RESPONSES_HELP = "Responses whose status line was sent, by class of status."
_BYTES_HELP = "Bytes given to the kernel for clients, by how they got there."

SLOTS: tuple[Slot, ...] = (
    Slot("counter", "zerocopy_responses", (("status", "2xx"),), _RESPONSES_HELP),
    Slot("counter", "zerocopy_responses", (("status", "3xx"),), _RESPONSES_HELP),
    Slot("counter", "zerocopy_responses", (("status", "4xx"),), _RESPONSES_HELP),
    Slot("counter", "zerocopy_responses", (("status", "5xx"),), _RESPONSES_HELP),
    Slot("counter", "zerocopy_sent_bytes", (("path", "sendfile"),), _BYTES_HELP),
    Slot("counter", "zerocopy_sent_bytes", (("path", "copy"),), _BYTES_HELP),
    Slot("counter", "zerocopy_connections_accepted", (), "Connections accepted."),
    Slot("counter", "zerocopy_connections_refused", (), "Connections answered 503 at the bound."),
    Slot("gauge", "zerocopy_connections", (), "Connections open now."),
    Slot("counter", "zerocopy_transfers_aborted", (), "Responses cut off after their status line."),
    Slot("counter", "zerocopy_plans_made", (), "Plans made from the files."),
    Slot("counter", "zerocopy_plans_reused", (), "Plans proved unchanged and used again."),
    Slot("gauge", "zerocopy_plan_cache_bytes", (), "Memory the reusable plans take."),
    Slot("gauge", "zerocopy_open_files", (), "Day files open now."),
    Slot("counter", "zerocopy_days_skipped", (), "Days left out because they lack a column."),
    Slot("gauge", "zerocopy_mapped_bytes", (), "Bytes of day files mapped now."),
    Slot("gauge", "zerocopy_locked_bytes", (), "Bytes of day files locked into memory now."),
    Slot("gauge", "zerocopy_watched_directories", (), "Directories watched for /api/symbols."),
    Slot("counter", "zerocopy_symbol_walks", (), "Walks over the data root for /api/symbols."),
    Slot("counter", "zerocopy_cold_reads", (), "Windows of answers read from the disk by threads."),
    Slot("counter", "zerocopy_cold_bytes", (), "Bytes of them that were not in the page cache."),
)

RESPONSES_2XX = 0
"""The first of four: slot `RESPONSES_2XX + status // 100 - 2`."""
SENT_BYTES_SENDFILE = 4
SENT_BYTES_COPY = 5
CONNECTIONS_ACCEPTED = 6
CONNECTIONS_REFUSED = 7
CONNECTIONS = 8
TRANSFERS_ABORTED = 9
PLANS_MADE = 10
PLANS_REUSED = 11
PLAN_CACHE_BYTES = 12
OPEN_FILES = 13
DAYS_SKIPPED = 14
MAPPED_BYTES = 15
LOCKED_BYTES = 16
WATCHED_DIRECTORIES = 17
SYMBOL_WALKS = 18
COLD_READS = 19
COLD_BYTES = 20

"""The day files of a run, what happens to them, and what each moment of them would answer.

Owns every state that the files have had. A state is a dictionary from name to content; its answer
is computed in memory, and compared with that of tests/naive.py over the real files now and then, so
that the two are one oracle.
"""

from __future__ import annotations

import json
import os
import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from tests.naive import naive_answer, naive_symbols
from tests.simulation.answers import Found
from tests.simulation.etags import etag_of
from tests.storage import trees
from tests.storage.trees import DTYPES, SIZES, append, folder, replace
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from random import Random

    from tests.simulation.disk import Disk

file_name, start_of = cache(trees.file_name), cache(trees.start_of)

SERIES = Series("coinbase", "X", "MD")
TODAY = date(2025, 2, 2)
DAYS = (date(2025, 1, 30), date(2025, 1, 31), date(2025, 2, 1), TODAY)
START_S = start_of(DAYS[0])
NOW_S = start_of(TODAY) + 36_000
COLUMNS = {"time": 4, "price": 4, "id": 8}
NUMPY = {"time": "<u4", "id": "<u8"}
COMBINATIONS_MAX = 512

State = dict[str, bytes]


class Asked(NamedTuple):
    """A query of the data route."""

    columns: tuple[str, ...] = ("time", "price")
    start_s: int = 0
    end_s: int = 4_294_967_295

    @property
    def target(self) -> str:
        """The request target that asks for it."""
        columns = ",".join(self.columns)
        return f"/api/data?symbol=X&type=MD&columns={columns}&start={self.start_s}&end={self.end_s}"


def answer_of(state: Mapping[str, bytes], asked: Asked) -> bytes | None:
    """The body of 200 for a state; None where a column is nowhere, which is 404."""
    if any(not any(name.startswith(f"{column}.") for name in state) for column in asked.columns):
        return None
    parts: list[list[bytes]] = [[] for _ in asked.columns]
    count, skipped = 0, []
    for day in DAYS:
        midnight = start_of(day)
        files = {c: state.get(file_name(c, day)) for c in COLUMNS}
        if midnight > asked.end_s or midnight + 86_399 < asked.start_s or not any_of(files):
            continue
        wanted = {c: files[c] for c in ("time", *asked.columns)}
        if None in wanted.values():
            skipped.append(f"{day:%d.%m.%y}")
            continue
        length = min(len(content or b"") // SIZES.get(c, 4) for c, content in wanted.items())
        times = struct.unpack(f"<{length}I", (files["time"] or b"")[: 4 * length])
        first, stop = bisect_left(times, asked.start_s), bisect_right(times, asked.end_s)
        count += stop - first
        for kept, column in zip(parts, asked.columns, strict=True):
            size, content = SIZES.get(column, 4), files[column] or b""
            kept.append(content[first * size : stop * size])
    header: dict[str, object] = {
        "columns": [
            {
                "name": column,
                "record_size": (size := SIZES.get(column, 4)),
                "num_records": count,
                "data_length": count * size,
                "dtype": NUMPY.get(column, "<f4"),
            }
            for column in asked.columns
        ]
    }
    if skipped:
        header["skipped"] = skipped
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    return line + b"".join(b"".join(kept) for kept in parts)


def any_of(files: Mapping[str, bytes | None]) -> bool:
    """Whether the day has any file."""
    return any(content is not None for content in files.values())


@dataclass(slots=True)
class Version:
    """The state from one change to the next, and the times of modification of its files.

    `is_amid`: it began while a thread was reading.
    """

    state: State
    symbols: str
    times: dict[str, int]
    is_amid: bool


class Tree:
    """The files below `root`; every change makes a new version."""

    def __init__(self, root: str, rng: Random, disk: Disk, *, lists_symbols: bool) -> None:
        self.root = root
        self._lists_symbols = lists_symbols
        self._rng = rng
        self._disk = disk
        self._folder = folder(root, SERIES)
        self._frozen: set[str] = set()
        self._away: set[str] = set()
        self._late: list[tuple[str, bytes]] = []
        self._answers: dict[tuple[int, Asked], bytes | None] = {}
        os.makedirs(self._folder)
        state: State = {}
        base_ns = (NOW_S - 7_200) * 10**9
        # A rare tree is large, so that answers take several frames and windows.
        most = rng.choice((6, 40, 40, 40, 400, 400, 6_000))
        for day in DAYS:
            if rng.random() < 0.1:
                continue
            state |= self._new_day(day, rng.randint(0, most))
        for name, content in state.items():
            self._write(name, content, base_ns)
        for level in (self._folder, *(os.path.join(root, *SERIES[:n]) for n in range(3))):
            disk.note_change(level, base_ns)
        self.versions: list[Version] = []
        self._note(state, is_amid=False)

    @property
    def now(self) -> int:
        """The number of the newest version."""
        return len(self.versions) - 1

    def _new_day(self, day: date, count: int) -> State:
        seconds = [14 * byte for byte in sorted(self._rng.randbytes(count))]
        midnight = start_of(day)
        state = {
            file_name("time", day): struct.pack(f"<{count}I", *(midnight + s for s in seconds)),
            file_name("price", day): self._rng.randbytes(4 * count),
            file_name("id", day): self._rng.randbytes(8 * count),
        }
        if self._rng.random() < 0.08:
            del state[file_name("id", day)]
        return state

    def list_symbols(self) -> None:
        """From now on the answers of /api/symbols are kept too."""
        self._lists_symbols = True
        self.versions[-1].symbols = self._symbols_now()

    # ---- changes

    def change(self, *, is_amid: bool = False) -> None:
        """One change of one file, or of the columns of one day by a recorder."""
        state = self.versions[-1].state
        if self._late:
            late = self._write_late(dict(state))
            self._note(late, is_amid=is_amid)
            return
        kinds = [self._record, self._record, self._replace, self._remove, self._truncate]
        if self._away:
            kinds += [self._return] * 3
        changed = self._rng.choice(kinds)(dict(state))
        if changed is not None:
            self._note(changed, is_amid=is_amid)

    def _note(self, state: State, *, is_amid: bool) -> None:
        times = {name: os.stat(os.path.join(self._folder, name)).st_mtime_ns for name in state}
        self.versions.append(Version(state, self._symbols_now(), times, is_amid))

    def _record(self, state: State) -> State | None:
        """Append records to each column of a day, or to some; the last may be torn."""
        day = TODAY if self._rng.random() < 0.7 else self._rng.choice(DAYS)
        times = state.get(file_name("time", day))
        if times is None:
            return None
        for column, size in COLUMNS.items():
            name = file_name(column, day)
            if name not in state or name in self._frozen or self._rng.random() < 0.2:
                continue
            count = self._rng.randint(1, 6)
            fresh = self._rng.randbytes(size * count)
            if column == "time":
                fresh = _next_times(times, start_of(day), count)
            if self._rng.random() < 0.25:
                fresh = fresh[: -self._rng.randint(1, size - 1)]
            self._late.append((name, fresh))
            self._touch(os.path.join(self._folder, name))
        # The kernel moves the times before the size: a reader may see the new time first.
        return self._write_late(state) if self._rng.random() < 0.7 else state

    def _write_late(self, state: State) -> State:
        """The bytes of `_record` come; the times were moved when it began."""
        for name, fresh in self._late:
            path = os.path.join(self._folder, name)
            modified_ns = os.stat(path).st_mtime_ns
            append(path, fresh)
            os.utime(path, ns=(modified_ns, modified_ns))
            state[name] += fresh
        self._late.clear()
        return state

    def _replace(self, state: State) -> State | None:
        """Rename a new file over an old one, as large as before or not."""
        name = self._pick(state)
        if name is None:
            return None
        if name.startswith("time."):
            content = state[name]
            size = self._rng.choice((len(content), len(content) // 2 // 4 * 4))
            content = content[:size]
        else:
            content = self._rng.randbytes(len(state[name]) + self._rng.choice((0, 0, 0, 8, 40)))
        state[name] = content
        path = os.path.join(self._folder, name)
        replace(path, content)
        self._touch(path)
        self._touch(self._folder)
        self._frozen.discard(name)
        return state

    def _remove(self, state: State) -> State | None:
        """Delete a file, or rename it away."""
        name = self._pick(state)
        if name is None:
            return None
        path = os.path.join(self._folder, name)
        if self._rng.random() < 0.5:
            os.unlink(path)
        else:
            os.rename(path, path + ".away")
            self._disk.note_change(path + ".away")
            self._away.add(name)
        self._touch(self._folder)
        del state[name]
        return state

    def _return(self, state: State) -> State | None:
        """Rename back what was renamed away."""
        name = self._rng.choice(sorted(self._away))
        self._away.discard(name)
        path = os.path.join(self._folder, name)
        os.rename(path + ".away", path)
        self._disk.note_change(path)
        self._touch(self._folder)
        with open(path, "rb") as file:
            state[name] = file.read()
        return state

    def _truncate(self, state: State) -> State | None:
        """Cut a file; nobody appends to it afterwards, which no reader could tell."""
        name = self._pick(state)
        if name is None or not state[name]:
            return None
        path = os.path.join(self._folder, name)
        state[name] = state[name][: self._rng.randrange(len(state[name]))]
        os.truncate(path, len(state[name]))
        self._touch(path)
        self._frozen.add(name)
        return state

    def _pick(self, state: State) -> str | None:
        return self._rng.choice(sorted(state)) if state else None

    def _write(self, name: str, content: bytes, time_ns: int) -> None:
        path = os.path.join(self._folder, name)
        with open(path, "wb") as file:
            file.write(content)
        os.utime(path, ns=(time_ns, time_ns))
        self._disk.note_change(path, time_ns)

    def _touch(self, path: str) -> None:
        os.utime(path, ns=(self._disk.tick_ns(),) * 2)
        self._disk.note_change(path)

    # ---- what is right

    def bodies(self, asked: Asked, first: int, last: int) -> Iterator[bytes | None]:
        """Every right answer to a request that came in one version and was answered in another."""
        for version in range(first, last + 1):
            yield self._answer(version, asked)
        if any(version.is_amid for version in self.versions[first : last + 1]):
            for state in self._mixtures(first, last):
                yield answer_of(state, asked)

    def found(self, asked: Asked, first: int, last: int) -> Iterator[Found | None]:
        """The same with tags; a mixture may have any."""
        for version in range(first, last + 1):
            body = self._answer(version, asked)
            yield None if body is None else Found(body, self._tag(version, asked, body))
        if any(version.is_amid for version in self.versions[first : last + 1]):
            for body in self.bodies(asked, first, last):
                yield None if body is None else Found(body, None)

    def believed(self, asked: Asked) -> tuple[bytes, str]:
        """The body and the tag of this moment; others where there are none."""
        body = self._answer(self.now, asked)
        if body is None:
            return b"{}\n" + bytes(99), '"never"'
        return body, self._tag(self.now, asked, body)

    def _tag(self, version: int, asked: Asked, body: bytes) -> str:
        state, times = self.versions[version].state, self.versions[version].times
        wanted = dict.fromkeys(("time", *asked.columns))
        days = [
            {c: (state[name], times[name]) for c in wanted if (name := file_name(c, day)) in state}
            for day in DAYS
            if start_of(day) <= asked.end_s and asked.start_s <= start_of(day) + 86_399
        ]
        whole = [day for day in days if len(day) == len(wanted)]
        return etag_of(body, whole, asked.columns, (asked.start_s, asked.end_s), SIZES)

    def is_countable(self, first: int, last: int) -> bool:
        """Whether `bodies` names them all: files that changed amid reading can be mixed at will."""
        return self._count_mixtures(first, last) <= COMBINATIONS_MAX

    def _count_mixtures(self, first: int, last: int) -> int:
        count = 1
        for _, choices in self._choices(first, last):
            count *= len(choices)
        return count

    def _mixtures(self, first: int, last: int) -> Iterator[State]:
        named = self._choices(first, last)
        if self._count_mixtures(first, last) > COMBINATIONS_MAX:
            return
        names = [name for name, _ in named]
        for chosen in product(*(choices for _, choices in named)):
            pairs = zip(names, chosen, strict=True)
            yield {name: content for name, content in pairs if content is not None}

    def _choices(self, first: int, last: int) -> list[tuple[str, list[bytes | None]]]:
        states = [version.state for version in self.versions[first : last + 1]]
        names = sorted({name for state in states for name in state})
        return [(name, list(dict.fromkeys(s.get(name) for s in states))) for name in names]

    def _answer(self, version: int, asked: Asked) -> bytes | None:
        key = version, asked
        if key not in self._answers:
            self._answers[key] = answer_of(self.versions[version].state, asked)
        return self._answers[key]

    def _symbols_now(self) -> str:
        if not self._lists_symbols:
            return ""
        return json.dumps(naive_symbols(self.root), separators=(",", ":"))

    def check_oracle(self, queries: Sequence[Asked]) -> None:
        """The states in memory answer as tests/naive.py does over the files."""
        for asked in queries:
            body = self._answer(self.now, asked)
            if body is not None:
                assert body == naive_answer(
                    self.root, *SERIES, asked.start_s, asked.end_s, asked.columns, DTYPES
                )


def unix_now(seconds: float) -> int:
    """Unix nanoseconds, so many seconds after a run began."""
    return int((NOW_S + seconds) * 1e9)


def _next_times(times: bytes, midnight_s: int, count: int) -> bytes:
    """Bytes that complete a torn time and add `count` more, ascending."""
    torn = len(times) % 4
    whole = len(times) // 4
    last = max([midnight_s, *struct.unpack(f"<{whole}I", times[: whole * 4])])
    rest = b""
    if torn:
        last = next(
            s for s in range(last, last + 100_000) if struct.pack("<I", s)[:torn] == times[-torn:]
        )
        rest = struct.pack("<I", last)[torn:]
    return rest + struct.pack(f"<{count}I", *(last + i // 2 for i in range(count)))

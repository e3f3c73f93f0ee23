"""What the contract allows as an answer, given the states the tree was in meanwhile.

Owns a copy of tests/naive.py that looks at a state of the simulated tree instead of the disk.

Which states count: all between the moment the server had received a request and the moment its
answer began to leave. The answer need not be a photograph of one of them. Days are independent of
each other; within a day all columns come from files that were there together, each as long as at
any of those moments, for a recorder appends to one column after the other.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from tests import naive
from tests.simulation.answers import Found
from tests.simulation.clock import NS_PER_S
from tests.simulation.etags import etag_of
from tests.simulation.filesystem import FileState, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIXES_MAX = 3_000


class Query(NamedTuple):
    """What a request for data asks."""

    root: str
    exchange: str
    symbol: str
    type: str
    start: int
    end: int
    columns: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where its files are."""
        return f"{self.root}/{self.exchange}/{self.symbol}/{self.type}"


class _View:
    """The modules `os` and `os.path` and the function `open`, of one state."""

    def __init__(self) -> None:
        self.state = State()
        self.path = self
        self.join = os.path.join

    def listdir(self, path: str) -> list[str]:
        if path not in self.state.folders:
            raise FileNotFoundError(path)
        return self.state.folders[path]

    def islink(self, path: str) -> bool:
        return path in self.state.links

    def isfile(self, path: str) -> bool:
        return path in self.state.files

    def isdir(self, path: str) -> bool:
        return path in self.state.folders

    def open(self, path: str, _mode: str) -> io.BytesIO:
        return io.BytesIO(self.state.files[path].content)

    def stat(self, path: str) -> Any:
        return _Modified(self.state.files[path].modified_ns)

    def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        if path not in self.state.folders:
            return
        names = self.state.folders[path]
        folders = [name for name in names if f"{path}/{name}" in self.state.folders]
        yield path, folders, [name for name in names if name not in folders]
        for name in folders:
            yield from self.walk(f"{path}/{name}")


class _Modified(NamedTuple):
    st_mtime_ns: int


def _private_naive(view: _View) -> Any:
    spec = importlib.util.spec_from_file_location("naive_of_a_state", naive.__file__)
    assert spec is not None, "it was imported above"
    assert spec.loader is not None, "from a file"
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.os = view
    module.open = view.open
    return module


_view = _View()
_naive = _private_naive(_view)

DTYPES = {"id": "u8"}
SIZES = {"id": 8}
"""Columns that are not four bytes wide, for naive.py, for the server and for the tag."""


def found_in(state: State, query: Query) -> Found | None:
    """What `query` finds in one state; None where it is 404."""
    _view.state = state
    if query.folder not in state.folders:
        return None
    days = _naive._days(query.folder)
    if not set(query.columns) <= {column for day in days.values() for column in day}:
        return None
    body: bytes = _naive.naive_answer(*query, dtypes=DTYPES)
    wanted = {"time", *query.columns}
    read = [
        {c: (state.files[p].content, state.files[p].modified_ns) for c, p in columns.items()}
        for day, columns in sorted(days.items())
        if wanted <= columns.keys() and _is_in(day, query)
    ]
    span = query.start, query.end
    return Found(body, etag_of(body, read, query.columns, span, SIZES))


def _is_in(day: date, query: Query) -> bool:
    midnight_s = (day - date(1970, 1, 1)).days * 86_400
    return midnight_s <= query.end and query.start <= midnight_s + 86_399


def found(states: Sequence[State], query: Query) -> Iterator[Found | None]:
    """All that may be found, the likely first; None where 404 is allowed."""
    folders = [_folder_of(state, query) for state in states]
    distinct = [
        folder for index, folder in enumerate(folders) if index == 0 or folder != folders[index - 1]
    ]
    for folder in distinct:
        yield found_in(folder, query)
    if len(distinct) == 1:
        return
    days = [_days_of(folder, query) for folder in distinct if query.folder in folder.folders]
    labels = sorted({label for day in days for label in day})
    choices = [_states_of_day([day.get(label, {}) for day in days]) for label in labels]
    for mix in itertools.islice(itertools.product(*choices), MIXES_MAX):
        files = {path: state for day in mix for path, state in day.items()}
        folder = State(files, {query.folder: [path.rpartition("/")[2] for path in files]})
        yield found_in(folder, query)


Day = dict[str, FileState]


def _folder_of(state: State, query: Query) -> State:
    """What a state holds of one series."""
    prefix = query.folder + "/"
    if query.folder not in state.folders:
        return State()
    files = {path: file for path, file in state.files.items() if path.startswith(prefix)}
    return State(files, {query.folder: [path[len(prefix) :] for path in files]})


def _days_of(folder: State, query: Query) -> dict[str, Day]:
    """The files of each day, by the date in their names."""
    assert query.folder in folder.folders, "it was there"
    days: dict[str, Day] = {}
    for path, state in folder.files.items():
        days.setdefault(path[-len("DD.MM.YY.bin") :], {})[path] = state
    return days


def _states_of_day(seen: Sequence[Day]) -> list[Day]:
    """Every way one day may be read: files that were there together, each of any length it had."""
    ways: list[Day] = []
    sizes: dict[tuple[str, int], dict[tuple[int, ...], FileState]] = {}
    for day in seen:
        for path, state in day.items():
            seen_as = state.size, id(state.stream), state.modified_ns
            sizes.setdefault((path, id(state.node)), {})[seen_as] = state
    for day in seen:
        lengths = [list(sizes[path, id(state.node)].values()) for path, state in day.items()]
        for states in itertools.product(*lengths):
            way = dict(zip(day, states, strict=True))
            if way not in ways:
                ways.append(way)
    return ways


def symbols_in(state: State, root: str, exchange: str | None) -> dict[str, Any]:
    """The document of /api/symbols in one state."""
    _view.state = state
    document: dict[str, Any] = _naive.naive_symbols(root, exchange)
    return document


def symbols_complaint(
    document: dict[str, Any], states: Sequence[State], root: str, exchange: str | None
) -> str | None:
    """What is wrong with a listing, each symbol of which is as in any of `states`."""
    allowed = [symbols_in(state, root, exchange) for state in states]
    if document in allowed:
        return None
    seen: dict[tuple[str, str], list[int | None]] = {}
    for index, one in enumerate(allowed):
        for name, entries in one["exchanges"].items():
            for entry in entries:
                marks = seen.setdefault((name, entry["symbol"]), [None] * len(allowed))
                marks[index] = entry["last_update"]
    listed = {
        (name, entry["symbol"]): entry["last_update"]
        for name, entries in document["exchanges"].items()
        for entry in entries
    }
    for key in listed.keys() | seen.keys():
        lasting = _lasting_ns(states, f"{root}/{key[0]}/{key[1]}/")
        known = [mark for mark in seen.get(key, []) if mark is not None]
        if key not in listed:
            if lasting is not None:
                return f"symbol {key} is missing"
        elif not known or not (lasting or 0) // NS_PER_S <= listed[key] <= max(known):
            return f"symbol {key} was updated at {listed[key]}, not in {known}"
    return None


def _lasting_ns(states: Sequence[State], prefix: str) -> int | None:
    """The time that a walk must find below a symbol: of files that were there all the while.

    A walk takes its time: it can miss one file that goes and another that comes.
    """
    files = [
        {p: f for p, f in state.files.items() if p.startswith(prefix) and _is_shown(p)}
        for state in states
    ]
    lasting = set(files[0]).intersection(*files[1:])
    return max((min(one[path].modified_ns for one in files) for path in lasting), default=None)


def _is_shown(path: str) -> bool:
    return path.endswith(".bin") and "/." not in path

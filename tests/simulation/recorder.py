"""What happens to the data directory while it is served, one change at a time.

Owns the sample tree and the changes: a recorder that appends with torn records, operators who
replace, remove, restore and cut files, and swap whole folders.
"""

from __future__ import annotations

import struct
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.simulation.requests import FIRST_S, ROOT
from tests.storage.trees import DAY, DAY_S, file_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.filesystem import FileSystem, Node

DAYS = 4
"""The last of them is today."""
GROWTH = 40
"""Records a file can still get."""
OLD_NS = (FIRST_S - 10 * DAY_S) * 1_000_000_000
HIDDEN = ".aside"
RECENT = 0.5
"""How often the file that the server looked at last is the one that changes."""


class Recorder:
    """Makes the tree, then changes it at random."""

    def __init__(self, rng: Random, files: FileSystem) -> None:
        self._rng = rng
        self._files = files
        self._folders: list[str] = []
        self.begun_ns = 0  # from when on it is served
        self._amid_reading = False
        self.recent: Node | None = None  # what the server looked at last

    def make(self) -> None:
        """Four series: small, large, and two that only listings show."""
        self._series("coinbase/X/MD", ("time", "price", "id"), DAYS, 12)
        self._series("coinbase/L/MD", ("time", "price"), 2, 60)
        self._series("coinbase/Y/TRADES", ("time",), 1, 3)
        self._series("kraken/Z/MD", ("time", "price"), 1, 3)
        self._files.make_file(f"{ROOT}/README", b"no day file", 11)
        self._files.make_link(f"{ROOT}/coinbase/LINK", "/data/coinbase/X")

    def _series(self, name: str, columns: tuple[str, ...], days: int, records: int) -> None:
        folder = f"{ROOT}/{name}"
        self._files.make_folder(folder)
        self._folders.append(folder)
        for index in range(DAYS - days, DAYS):
            count = self._rng.randint(records // 2, records)
            for column in columns:
                path = self._path(folder, column, index)
                self._files.make_file(
                    path, self._stream(column, index, count), self._size(column, count)
                )
                if index < DAYS - 1:
                    self._files.set_modified(path, OLD_NS)

    def change(self, *, amid_reading: bool) -> str:
        """One change; its name, for the trace."""
        rng = self._rng
        self._amid_reading = amid_reading
        changes: list[tuple[int, Callable[[], bool]]] = [
            (6, self._append),
            (20 if amid_reading else 4, self._truncate),  # a window of one call
            (3, self._replace),
            (2, self._remove),
            (3, self._create),
            (1, self._swap),
            (1, self._touch),
            (3, self._rewrite),
            (1, self._hide),
            (1, self._link),
        ]
        [change] = rng.choices([c for _, c in changes], [w for w, _ in changes])
        return change.__name__ + ("" if change() else " (nothing to do)")

    # ---- changes: each says whether there was anything to change

    def _append(self) -> bool:
        path = self._any_file()
        if path is None:
            return False
        node = self._files.find(path)
        width = 8 if "/id." in path else 4
        more = width * self._rng.randint(1, 4) + self._rng.choice([0, 0, 1, 3])
        self._files.resize(path, min(len(node.stream), node.size + more))
        return True

    def _truncate(self) -> bool:
        path = self._any_file()
        if path is None:
            return False
        size = self._files.find(path).size
        self._files.resize(path, self._rng.choice([0, self._rng.randint(0, size)]))
        return True

    def _replace(self) -> bool:
        """Write beside and rename over; now and then with the times of the old one."""
        path = self._any_file()
        if path is None:
            return False
        old = self._files.find(path)
        folder, _, name = path.rpartition("/")
        column = name[: -len(".DD.MM.YY.bin")]
        more = self._rng.choice([-1, 0, 0, 1])
        count = old.size // self._width(column) + more
        index = self._index(name)
        new = f"{folder}/{HIDDEN}"
        modified_ns = old.modified_ns
        stream = self._stream(column, index, max(count, 0))
        size = self._size(column, max(count, 0)) if more else old.size
        self._files.make_file(new, stream, size)
        if self._rng.random() < 0.3:
            self._files.set_modified(new, modified_ns)
        self._files.rename(new, path)
        return True

    def _remove(self) -> bool:
        path = self._any_file()
        if path is None:
            return False
        self._files.remove(path)
        return True

    def _create(self) -> bool:
        """A file of a day that may have none yet."""
        folder = self._rng.choice(self._folders)
        if folder not in self._files.states[-1].folders:
            return False
        column, index = self._rng.choice(["time", "price", "id"]), self._rng.randrange(DAYS)
        path = self._path(folder, column, index)
        state = self._files.states[-1]
        if path in state.files or path in state.links:
            return False
        count = self._rng.randint(0, 12)
        self._files.make_file(path, self._stream(column, index, count), self._size(column, count))
        return True

    def _swap(self) -> bool:
        """A whole folder is replaced: moved aside, and a copy or the old one moved in."""
        folder = self._rng.choice(self._folders)
        aside = folder.rpartition("/")[0] + "/" + HIDDEN
        folders = self._files.states[-1].folders
        if folder not in folders:
            if aside in folders:
                self._files.rename(aside, folder)
                return True
            return False
        if aside in folders:
            self._files.remove(aside)
        self._files.rename(folder, aside)
        return True

    def _rewrite(self) -> bool:
        """Values of a closed day are written over in place.

        The contract forbids it for open days, where nobody can notice. Of a closed day it has to be
        noticed by the next look at the file: not between a look and the reading behind it.
        """
        path = self._any_file()
        if path is None or self._amid_reading or "/time." in path:
            return False
        node = self._files.find(path)
        if node.modified_ns != OLD_NS or node.changed_ns > self.begun_ns:
            return False
        self._files.rewrite(path, self._rng.randbytes(len(node.stream)))
        return True

    def _touch(self) -> bool:
        path = self._any_file()
        if path is None:
            return False
        self._files.set_modified(path, OLD_NS + self._rng.randint(0, 3) * 1_000_000_000)
        return True

    def _hide(self) -> bool:
        """A file is moved aside, or back."""
        state = self._files.states[-1]
        hidden = [path for path in state.files if path.endswith("/.hidden.bin")]
        if hidden:
            self._files.remove(hidden[0])
            return True
        path = self._any_file()
        if path is None:
            return False
        self._files.rename(path, path.rpartition("/")[0] + "/.hidden.bin")
        return True

    def _link(self) -> bool:
        """A symbolic link takes the place of a file."""
        path = self._any_file()
        if path is None:
            return False
        self._files.remove(path)
        self._files.make_link(path, f"{ROOT}/README")
        return True

    # ---- names and bytes

    def _any_file(self) -> str | None:
        paths = [p for p in self._files.states[-1].files if p.endswith(".bin") and "/." not in p]
        if self.recent is not None and self._rng.random() < RECENT:
            states = self._files.states[-1].files
            recent = [path for path in paths if states[path].node is self.recent]
            if recent:
                return recent[0]
        busy = [p for p in paths if "/X/" in p or "/L/" in p]
        return self._rng.choice(sorted(busy or paths)) if paths else None

    def _path(self, folder: str, column: str, index: int) -> str:
        return f"{folder}/{file_name(column, DAY + timedelta(days=index))}"

    @staticmethod
    def _index(name: str) -> int:
        labels = [file_name("", DAY + timedelta(days=index)) for index in range(DAYS)]
        return labels.index(name[-len(".DD.MM.YY.bin") :])

    @staticmethod
    def _width(column: str) -> int:
        return 8 if column == "id" else 4

    def _size(self, column: str, count: int) -> int:
        torn = self._rng.choice([0, 0, 0, 1, 2, 3])
        return self._width(column) * count + torn

    def _stream(self, column: str, index: int, count: int) -> bytes:
        """Records of one day: times ascend with repetitions, the rest is noise."""
        total = count + GROWTH
        if column != "time":
            return self._rng.randbytes(self._width(column) * total)
        start_s = FIRST_S + index * DAY_S
        step_s = self._rng.choice([1, 300, 450])
        return struct.pack(f"<{total}I", *(start_s + (i // 2) * step_s for i in range(total)))

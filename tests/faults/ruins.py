"""How a day is ruined below the data root: each way one function, which says how to undo it.

Owns a `Scene`, the place that a test may ruin, and what may become of its names and of its bytes.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.faults.client import body_of, column_path, seal, target_of, write_series
from tests.faults.download import End, download, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.server import RunningServer

    Ruin = Callable[["Scene"], Callable[[], object]]

SMALL_RECORDS = 50
OTHER = target_of("OTHER", "price")


class Scene:
    """A root of its own below the server's: type MD of BTC-USD, large or small."""

    def __init__(self, root: Path, server: RunningServer, name: str) -> None:
        self.root, self.server, self.type = root, server, name
        self.exchange = os.path.join(root, "coinbase")
        self.symbol = os.path.join(self.exchange, "BTC-USD")
        self.folder = os.path.join(self.symbol, name)
        self.price = column_path(root, name, "price")
        self.time = column_path(root, name, "time")
        self.target = target_of(name, "price")

    @property
    def body(self) -> bytes:
        """The right answer as of now."""
        return body_of(self.root, self.type, ["price"])

    def is_well(self, way: str) -> None:
        """Nobody died, the root is ready, and an honest question has the right answer."""
        assert self.server.event("worker_died") is None
        assert self.server.get("/readyz").status == 200
        end = download(self.server, way, OTHER)
        assert end == End(body_of(self.root, "OTHER", ["price"]), is_whole=True)


def written(scene: Scene, records: int, *, is_closed: bool) -> bytes:
    """Write both columns; the right body. Sealed, its day is closed."""
    write_series(scene.root, scene.type, records)
    if is_closed:
        seal(scene.root, scene.type)
    return scene.body


def moved(path: str, to: str) -> Callable[[], object]:
    """Rename, and how to undo it."""
    os.rename(path, to)
    return lambda: os.rename(to, path)


def file_unreadable(scene: Scene) -> Callable[[], object]:
    """Mode 000 on the file."""
    os.chmod(scene.price, 0)
    return lambda: os.chmod(scene.price, 0o644)


def type_unreadable(scene: Scene) -> Callable[[], object]:
    """Mode 000 on the directory of the files."""
    os.chmod(scene.folder, 0)
    return lambda: os.chmod(scene.folder, 0o755)


def symbol_unreadable(scene: Scene) -> Callable[[], object]:
    """Mode 000 on a directory on the way."""
    os.chmod(scene.symbol, 0)
    return lambda: os.chmod(scene.symbol, 0o755)


def root_unreadable(scene: Scene) -> Callable[[], object]:
    """Mode 000 on the root."""
    os.chmod(scene.root, 0)
    return lambda: os.chmod(scene.root, 0o755)


def file_gone(scene: Scene) -> Callable[[], object]:
    """The name of the file goes."""
    return moved(scene.price, scene.price + ".gone")


def type_gone(scene: Scene) -> Callable[[], object]:
    """The directory of the files goes."""
    return moved(scene.folder, scene.folder + ".gone")


def symbol_gone(scene: Scene) -> Callable[[], object]:
    """The symbol goes."""
    return moved(scene.symbol, scene.symbol + ".gone")


def root_gone(scene: Scene) -> Callable[[], object]:
    """The root goes."""
    return moved(str(scene.root), f"{scene.root}.gone")


def linked(path: str, away: str) -> Callable[[], object]:
    """Rename, and put a link to it in its place."""
    os.rename(path, away)
    os.symlink(away, path)

    def undo() -> None:
        os.unlink(path)
        os.rename(away, path)

    return undo


def outside(scene: Scene, name: str) -> str:
    """A path that is not below the root, on the same file system."""
    return os.path.join(os.path.dirname(scene.root), name)


def file_linked(scene: Scene) -> Callable[[], object]:
    """The file becomes a link to one beside it."""
    return linked(scene.price, scene.price + ".away")


def file_linked_outside(scene: Scene) -> Callable[[], object]:
    """The file becomes a link to one outside of the root."""
    return linked(scene.price, outside(scene, "price"))


def type_linked(scene: Scene) -> Callable[[], object]:
    """The directory becomes a link to one inside of the root."""
    return linked(scene.folder, scene.folder + ".away")


def symbol_linked(scene: Scene) -> Callable[[], object]:
    """The symbol becomes a link that leaves the root."""
    return linked(scene.symbol, outside(scene, "symbol"))


def exchange_linked(scene: Scene) -> Callable[[], object]:
    """The exchange becomes a link that leaves the root."""
    return linked(scene.exchange, outside(scene, "exchange"))


def link_to_itself(scene: Scene) -> Callable[[], object]:
    """The symbol becomes a link that leads nowhere (ELOOP)."""
    undo = moved(scene.symbol, scene.symbol + ".gone")
    os.symlink("BTC-USD", scene.symbol)
    return in_turn(lambda: os.unlink(scene.symbol), undo)


def replaced_by(path: str, make: Callable[[str], object]) -> Callable[[], object]:
    """Rename, and make something else of that name."""
    undo = moved(path, path + ".gone")
    make(path)
    remove = os.rmdir if os.path.isdir(path) else os.unlink
    return in_turn(lambda: remove(path), undo)


def empty_file(path: str) -> None:
    """Make a file of no bytes."""
    with open(path, "wb"):
        pass


def file_is_directory(scene: Scene) -> Callable[[], object]:
    """A directory under the file's name (EISDIR)."""
    return replaced_by(scene.price, os.mkdir)


def file_is_fifo(scene: Scene) -> Callable[[], object]:
    """A fifo under the file's name, which would hold up whoever opens it."""
    return replaced_by(scene.price, os.mkfifo)


def type_is_file(scene: Scene) -> Callable[[], object]:
    """A file in place of the directory (ENOTDIR)."""
    return replaced_by(scene.folder, empty_file)


def symbol_is_file(scene: Scene) -> Callable[[], object]:
    """A file in place of a directory on the way (ENOTDIR)."""
    return replaced_by(scene.symbol, empty_file)


def root_is_file(scene: Scene) -> Callable[[], object]:
    """A file in place of the root (ENOTDIR)."""
    return replaced_by(str(scene.root), empty_file)


def replaced_by_another(scene: Scene) -> Callable[[], object]:
    """Other records of the same size are renamed into place."""
    with open(scene.price + ".new", "wb") as file:
        file.write(bytes(os.stat(scene.price).st_size))
    os.rename(scene.price + ".new", scene.price)
    return lambda: None


def type_replaced(scene: Scene) -> Callable[[], object]:
    """The directory goes, and another with other records comes."""
    undo = type_gone(scene)
    write_series(scene.root, scene.type, SMALL_RECORDS)
    return in_turn(lambda: shutil.rmtree(scene.folder), undo)


def symbol_replaced(scene: Scene) -> Callable[[], object]:
    """The symbol goes, and another with other records comes."""
    undo = symbol_gone(scene)
    write_series(scene.root, scene.type, SMALL_RECORDS)
    return in_turn(lambda: shutil.rmtree(scene.symbol), undo)


def deleted(scene: Scene) -> Callable[[], object]:
    """The last name of both files goes."""
    os.unlink(scene.price)
    os.unlink(scene.time)
    return lambda: None


def root_gone_and_back(scene: Scene) -> Callable[[], object]:
    """Away, and there again before the transfer goes on."""
    root_gone(scene)()
    return lambda: None


def grown(scene: Scene) -> None:
    """A recorder appends to both columns."""
    for path, content in ((scene.price, os.urandom(400)), (scene.time, bytes(400))):
        with open(path, "ab") as file:
            file.write(content)


def truncated(scene: Scene) -> None:
    """All but the last record."""
    os.truncate(scene.price, os.stat(scene.price).st_size - 4)


def truncated_and_grown(scene: Scene) -> None:
    """Cut off behind what was sent, then as long as before with other bytes."""
    os.truncate(scene.price, os.stat(scene.price).st_size - 4_096)
    with open(scene.price, "ab") as file:
        file.write(bytes(4_096))


def touched(scene: Scene) -> None:
    """The same bytes with another time."""
    os.utime(scene.price)

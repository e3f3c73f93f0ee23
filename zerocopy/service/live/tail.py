"""The end of one series, as all see it who read the same columns of it.

Owns what was last seen of the newest day, who waits for more of it, and the messages made of it:
one look and one message for all. A reader that is behind gets what it asks for, by looks at other
days that are shared as well. Used in the event loop's thread; work that may block goes to `Jobs`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import ref

from zerocopy.core import counters as slots
from zerocopy.core.cursor import Cursor
from zerocopy.core.errors import DataChangedError, StoreError
from zerocopy.core.layout import TIME_COLUMN, parse_file_name
from zerocopy.service.live.identities import Identities
from zerocopy.service.live.messages import NOT_MADE, Kept, Made
from zerocopy.service.live.tally import Tally
from zerocopy.storage.watch.inotify import IN_ATTRIB, IN_MODIFY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zerocopy.core.http.stream import Message
    from zerocopy.service.live.messages import Composer, Part
    from zerocopy.service.live.reader import Reader
    from zerocopy.service.live.shared import Shared
    from zerocopy.storage.live.following import Followed, LiveDay, Look

_NOTHING: Final = object()


class Tail:
    """All that read the same columns of a series."""

    __slots__ = (
        "_again", "_composing", "_epoch", "_growing", "_identities", "_is_closed", "_is_stirred",
        "_looking", "_made", "_seeking", "_shared", "_stalled", "_waiting", "_wanted", "aligned",
        "composer", "current", "followed", "is_inline", "look", "newest", "quiet_ns", "readers",
        "tally", "version",
    )  # fmt: skip

    def __init__(self, followed: Followed, composer: Composer, shared: Shared) -> None:
        self.followed = followed
        self.composer = composer
        self._shared = shared
        self._wanted = frozenset((TIME_COLUMN, *followed.columns))
        self.readers = 0
        self.look: Look | None = None
        """Of the newest day that somebody has come to; None where nobody has."""
        self.aligned = -1
        """Its aligned records."""
        self.current: object = _NOTHING
        """What names its files, where it is the last day that has records."""
        self._growing: frozenset[bytes] = frozenset()  # the names of its files
        self.newest = [NOT_MADE, NOT_MADE]
        """The last message that brought readers up to date, by kind."""
        self.tally = Tally(shared.counters, shared.clock_ns, shared.call_soon)
        self.quiet_ns = shared.clock_ns()
        self.is_inline = False
        """Whether the event loop itself may ask for the sizes of files."""
        self.version = 0
        """How often the newest day was seen to change, or was said to."""
        self._epoch = 0
        """How often files may have got other records in the place of some: no message holds."""
        self._is_closed = False
        self._is_stirred = False
        self._waiting: dict[Reader, None] = {}
        self._stalled: dict[Reader, None] = {}  # of those that wait: what they need is away
        self._seeking: dict[int, dict[Reader, None]] = {}
        # The looks that are being taken, by day: the version they began with, and who waits.
        self._looking: dict[int, tuple[int, dict[Reader, None]]] = {}
        self._again: set[int] = set()
        self._identities = Identities()
        self._composing: dict[tuple[object, ...], dict[Reader, None]] = {}
        self._made = Kept()

    # ---- for readers

    def look_at(self, day: int) -> Look | None:
        """What was seen of a day, if it need not be looked at again."""
        known = self._known(day)
        # Where nobody tells, only the newest day is looked at now and then.
        return known if self.is_inline or known is self.look else None

    def _known(self, day: int) -> Look | None:
        if self.look is not None and self.look.sight.day == day:
            return self.look
        return self._shared.past.get(self.followed, day)

    def now(self) -> Cursor | None:
        """The cursor behind all records, where no thread is needed to tell."""
        if not self.refresh() or self.look is None:
            return None
        day, aligned, _, later = self.look.sight
        return None if aligned is None or later is not None else Cursor(day, aligned)

    def opening(self, kind: int, cursor: Cursor) -> Message:
        """What a stream begins with: one for all that begin at the same cursor."""
        key = (kind, cursor)
        message = self._made.get(key)
        if message is None:
            message = self.composer.opening(kind, cursor)
            self._made.add(key, message)
        return message

    def wait(self, reader: Reader) -> None:
        """It has all there is; `wake` tells it of more."""
        self._waiting[reader] = None

    def leave(self, reader: Reader) -> None:
        """It no longer waits."""
        self._waiting.pop(reader, None)
        self._stalled.pop(reader, None)

    def seek(self, day: int, reader: Reader) -> None:
        """Have a thread look at a day from now on, then wake the reader, and not before."""
        self.leave(reader)
        self._seeking.setdefault(day, {})[reader] = None
        known = self.look
        self._begin_look(day, known if known is not None and known.sight.day == day else None)

    def message(
        self, kind: int, day: LiveDay, wanted: Part, reader: Reader
    ) -> tuple[Message, int] | None:
        """A message of what is `wanted`, and where it ends; None: it is given later.

        Raises:
            DataError: a file cannot be read.
            OverloadError: there are no descriptors left.
        """
        part = first, stop, skipped = self.composer.cut(kind, wanted)
        key = (kind, self._epoch, day.identity, part)
        message = self._made.get(key)
        if message is None:
            try:
                message = self.composer.make_now(kind, day, part)
            except DataChangedError:
                self._seek_anew(day.day, (reader,))
                return None
            if message is None:
                self._compose(key, day, part, reader)
                return None
            if message.segments:
                # Its files, as they are now: once they have grown, and are no longer kept open, it
                # could not be sent, nor could those who come back for it get another.
                return message, stop
            self._made.add(key, message)
        if stop == self.aligned and day.identity is self.current and not skipped:
            self.newest[kind] = Made(day.identity, first, stop, message)
        return message, stop

    # ---- what happens to the files

    def on_names(self, names: Mapping[bytes, int]) -> None:
        """Names in the directory had an event; by name, the mask of what happened."""
        newest = None if self.look is None else self.look.sight.day
        has_grown = is_other = False
        for name, mask in names.items():
            if mask == IN_MODIFY and name in self._growing and self.is_inline:
                has_grown = True
                continue
            parsed = parse_file_name(name.decode("ascii", "replace"))
            if parsed is None or parsed[0] not in self._wanted:
                continue
            day = parsed[1]
            self._shared.past.forget(self.followed, day)
            if day in self._looking:
                self._again.add(day)
            if mask & ~(IN_MODIFY | IN_ATTRIB):
                self._identities.note_replaced(day)
            if newest is None or day >= newest or self.aligned <= 0:
                is_other = True
        if is_other:
            self.version += 1
            self.stir()
        elif has_grown and self.look is not None and self.look.opened is not None:
            # Had a name gone to another file, it would be among `names`, or in the next ones.
            self._shared.counters[slots.LIVE_LOOKS] += 1
            self._note_aligned(self.look, self.look.opened.measure_opened())

    def refresh(self) -> bool:
        """Ask for the sizes of the newest day's files. False: it must be looked at anew."""
        look = self.look
        if look is None or look.opened is None or not self.is_inline:
            return False
        self._shared.counters[slots.LIVE_LOOKS] += 1
        aligned = look.opened.measure()
        if aligned is None:
            return False
        self._note_aligned(look, aligned)
        return True

    def _note_aligned(self, look: Look, aligned: int) -> None:
        if aligned != self.aligned:
            self._set(look._replace(sight=look.sight._replace(aligned=aligned)))

    def on_anything(self) -> None:
        """Nobody has told what happened: nothing that was seen is to be believed."""
        self._shared.past.forget_all(self.followed)
        self._again.update(self._looking)
        self.version += 1
        self.stir()

    def stir(self) -> None:
        """Something may have happened to the newest day, or a later one: look anew."""
        if self.look is not None:
            self._is_stirred = True
            self._begin_look(self.look.sight.day, None)
        else:
            self._wake_waiting()

    def poll(self, *, is_hinted: bool = False) -> None:
        """Look whether anything has changed, if nobody tells; what was away may be back.

        `is_hinted`: somebody says so, and what was seen proves nothing.
        """
        self._shared.counters[slots.LIVE_POLLS] += 1
        stalled, self._stalled = self._stalled, {}
        self._shared.wake(stalled)
        if self.look is None or self.aligned <= 0:
            self.stir()  # what comes next may be of any day
        elif is_hinted:
            self._begin_look(self.look.sight.day, None)
        elif self.look.sight.day not in self._looking:
            self._begin_look(self.look.sight.day, self.look)

    def beat(self) -> None:
        """Tell those that wait that nothing has happened."""
        self.quiet_ns = self._shared.clock_ns()
        for reader in self._waiting:
            reader.beat()
        self._wake_waiting()

    def close(self) -> None:
        """Nobody tells of changes any more: forget what was seen, and what is still to be seen."""
        self._is_closed = True
        self.look, self.current, self._growing = None, _NOTHING, frozenset()
        self._waiting.clear()
        self._shared.past.forget_all(self.followed)

    # ---- looks

    def _begin_look(self, day: int, known: Look | None) -> None:
        if day in self._looking:
            self._again.add(day)  # what it sees may be older than what this is about
            return
        self._looking[day] = self.version, self._seeking.pop(day, {})
        self._shared.counters[slots.LIVE_LOOKS] += 1
        work = partial(self._shared.follower.look, self.followed, day, known)
        self._shared.jobs.submit(work, partial(self._on_look, day), urgent=True)

    def _on_look(self, day: int, look: Look | Exception) -> None:
        version, seeking = self._looking.pop(day)
        if self._is_closed:
            return
        is_sure = day not in self._again
        if not is_sure:
            self._again.discard(day)
            self._begin_look(day, None)
        if isinstance(look, StoreError):
            for reader in seeking:
                reader.stall()
                self._waiting[reader] = self._stalled[reader] = None
            return
        if isinstance(look, Exception):
            for reader in seeking:
                reader.fail(look)
        elif look is not self.look and not self._take(look, seeking, version, is_sure=is_sure):
            for reader in seeking:
                self.seek(day, reader)
            return
        self._shared.wake(seeking)

    def _take(self, look: Look, seeking: Iterable[Reader], version: int, *, is_sure: bool) -> bool:
        """Note what was seen, as of the newest day, as of one that is over, or for those alone.

        The newest is the last that has records: whoever waits does so there, or on a later day, or,
        until the next poll, where an object store cannot tell what comes behind a day. `is_sure`:
        nobody has told or asked of the day meanwhile. False where it has other files already.
        """
        look = self._identities.named(look, self._known(look.sight.day))
        day, aligned, _, later = look.sight
        known = self.look
        is_known = known is not None and known.sight.day == day
        is_last = later is None and look.opened is not None
        if is_known or (is_last and self._is_newest(day, aligned)):
            if self.is_inline and look.opened is not None:
                # The event loop may have seen more since the thread looked.
                aligned = look.opened.measure()
                if aligned is None:
                    self.stir()
                    return False
                look = look._replace(sight=look.sight._replace(aligned=aligned))
            # Whoever waits for another day learns of it here: that there is one, or that it stirs.
            if self._is_stirred or later is not None:
                self._is_stirred = False
                self._wake_waiting()
            if not is_known and version != self.version:
                self._begin_look(day, None)  # what happened meanwhile was not about this day
            self._set(look)
            return True
        self._offer(look, seeking, version, is_sure=is_sure)
        return True

    def _offer(self, look: Look, seeking: Iterable[Reader], version: int, *, is_sure: bool) -> None:
        """Give a look at another day than the newest to those who have asked for it."""
        day, aligned, _, later = look.sight
        if later is not None:
            self._epoch += 1
            if is_sure:
                self._shared.past.keep(self.followed, look)
            version = self.version  # what has happened to later days is of no matter
        if later is None or self.look_at(day) is not look:
            for reader in seeking:
                reader.offer(version, look)
        if later is None and aligned:
            self._stalled.update(dict.fromkeys(seeking))

    def _is_newest(self, day: int, aligned: int | None) -> bool:
        """Whether a day behind which none is seen has records where no later one had any."""
        if self.look is None:
            return True
        return bool(aligned) and (day > self.look.sight.day or self.aligned <= 0)

    def _set(self, look: Look) -> None:
        before, self.look = self.look, look
        if before is None or (look.sight.aligned or 0) < (before.sight.aligned or 0):
            self._epoch += 1
        _, aligned, identity, later = look.sight
        self.aligned = -1 if aligned is None else aligned
        self.current = identity if aligned is not None and later is None else _NOTHING
        self._growing = frozenset() if look.opened is None else look.opened.names
        if before is None or before.sight != look.sight:
            self.version += 1
            self.newest = [NOT_MADE, NOT_MADE]
            self.quiet_ns = self._shared.clock_ns()
            self.tally.note_grown(self.quiet_ns)
            self._wake_waiting()

    def _wake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if waiting:
            self._shared.wake(waiting)

    # ---- messages

    def _compose(self, key: tuple[object, ...], day: LiveDay, part: Part, reader: Reader) -> None:
        known = self._composing.get(key)
        if known is not None:
            known[reader] = None
            return
        self._composing[key] = {reader: None}
        # Of a reference that keeps no file open while it waits for a thread.
        work = partial(self._make, ref(day), day.day, day.keys, part)
        on_made = partial(self._on_made, key, Cursor(day.day, part.first), part.stop)
        self._shared.jobs.submit(work, on_made, urgent=False)

    def _make(self, known: ref[LiveDay], day: int, keys: object, part: Part) -> Message:
        """Make a message in a thread.

        Raises:
            DataChangedError: the files are no longer the same, or shorter.
            DataError: a file cannot be read.
        """
        opened = known()
        if opened is None:
            look = self._shared.follower.look(self.followed, day)
            opened = look.opened
            if opened is None or opened.keys != keys:
                raise DataChangedError("a day file was replaced")
        return self.composer.make(opened, part)

    def _on_made(
        self, key: tuple[object, ...], begin: Cursor, stop: int, made: Message | Exception
    ) -> None:
        readers = self._composing.pop(key)
        if isinstance(made, (DataChangedError, StoreError)):
            self._seek_anew(begin.day, readers)
            return
        for reader in readers:
            if isinstance(made, Exception):
                reader.fail(made)
            else:
                reader.give(made, begin, stop)
        if not isinstance(made, Exception):
            self._made.add(key, made)
        self._shared.wake(readers)

    def _seek_anew(self, day: int, readers: Iterable[Reader]) -> None:
        """A day has changed since it was looked at."""
        self._shared.past.forget(self.followed, day)
        for reader in readers:
            self.seek(day, reader)

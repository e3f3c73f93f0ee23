"""Locking: its budget, its system calls, and what the operator is told when it is refused."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.storage.memory import PAGE, REFUSING, FakeLibc, kernel_locked_bytes
from zerocopy.storage.libc.memlock import LIBC, MemoryLocks, SystemLibc, address_of, sentence_for

EHWPOISON = 133
"""errno(3); the module errno has no name for it."""

HERE = 16 * PAGE
"""An address for libraries that do not look at it."""


def locks_of(libc: FakeLibc, budget: int = 8 * PAGE) -> tuple[MemoryLocks, list[str]]:
    """Locks over a fake library, and what they told the operator."""
    said: list[str] = []
    return MemoryLocks(budget, said.append, libc), said


def test_lock_counts_whole_pages_up_to_the_budget() -> None:
    """One byte costs a page; what does not fit is not tried, and not complained about."""
    libc = FakeLibc()
    locks, said = locks_of(libc, 3 * PAGE)
    assert locks.lock(HERE, 1) == PAGE
    assert locks.lock(HERE, PAGE + 1) == 2 * PAGE
    assert locks.locked_bytes == 3 * PAGE
    assert locks.lock(HERE, 1) == 0
    assert libc.calls == [("mlock2", HERE, PAGE), ("mlock2", HERE, 2 * PAGE)]
    assert said == []


def test_lock_finds_room_again_after_bytes_were_given_back() -> None:
    """The budget is of what is locked now, not of all that ever was."""
    locks, _ = locks_of(FakeLibc(), 2 * PAGE)
    assert locks.lock(HERE, 2 * PAGE) == 2 * PAGE
    assert locks.lock(HERE, PAGE) == 0
    locks.give_back(2 * PAGE)
    assert locks.lock(HERE, PAGE) == PAGE
    assert locks.locked_bytes == PAGE


@pytest.mark.parametrize(("budget", "nbytes"), [(0, 1), (0, 10 * PAGE), (PAGE - 1, 1), (PAGE, 0)])
def test_lock_without_room_makes_no_system_call(budget: int, nbytes: int) -> None:
    """A budget of 0 locks nothing, nor does one below a page; no bytes need no lock."""
    libc = FakeLibc()
    locks, said = locks_of(libc, budget)
    assert locks.lock(HERE, nbytes) == 0
    assert (libc.calls, said, locks.locked_bytes) == ([], [], 0)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL])
def test_lock_without_mlock2_uses_mlock_from_then_on(code: int) -> None:
    """An old kernel or libc is asked once."""
    libc = FakeLibc(mlock2=code)
    locks, said = locks_of(libc)
    assert locks.lock(HERE, PAGE) == PAGE
    assert locks.lock(HERE, PAGE) == PAGE
    assert [name for name, *_ in libc.calls] == ["mlock2", "mlock", "mlock"]
    assert said == []


def test_lock_refused_costs_no_budget_and_leaves_nothing_half_locked() -> None:
    """mlock(2) that failed on the way is undone, or the kernel would go on counting it."""
    libc = FakeLibc(**REFUSING)
    locks, said = locks_of(libc)
    assert locks.lock(HERE, 5) == 0
    assert locks.locked_bytes == 0
    assert libc.calls[-2:] == [("mlock", HERE, PAGE), ("munlock", HERE, PAGE)]
    assert said == [sentence_for(errno.ENOMEM)]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOMEM, ["(ENOMEM)", "LimitMEMLOCK=", "ulimit -l", "CAP_IPC_LOCK", "lower"]),
        (errno.EPERM, ["(EPERM)", "LimitMEMLOCK=", "ulimit -l", "CAP_IPC_LOCK"]),
        (errno.EAGAIN, ["(EAGAIN)", "memory is short", "MemoryMax=", "lower"]),
        (errno.EINVAL, ["(EINVAL)", "locked_bytes_max = 0"]),
        (errno.ENOSYS, ["(ENOSYS)", "SystemCallFilter=", "@memlock", "locked_bytes_max = 0"]),
        (errno.EIO, ["(EIO)", "locked_bytes_max = 0"]),
        (4_095, ["(errno 4095)", "locked_bytes_max = 0"]),
    ],
)
def test_every_refusal_is_one_sentence_that_says_what_to_do(code: int, words: list[str]) -> None:
    """Whatever the errno, by mlock2 or by mlock: no exception, and a way out by option name."""
    via_mlock2 = code not in {errno.EINVAL, errno.ENOSYS}
    libc = FakeLibc(mlock2=code) if via_mlock2 else FakeLibc(mlock2=errno.ENOSYS, mlock=code)
    locks, said = locks_of(libc)
    assert locks.lock(HERE, 1) == 0
    [sentence] = said
    assert [word for word in ["[memory] locked_bytes_max", *words] if word not in sentence] == []
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert ". " not in sentence


def test_each_cause_is_told_once() -> None:
    """A thousand refusals of two kinds are two sentences; another object tells anew."""
    libc = FakeLibc(mlock2=errno.ENOMEM)
    locks, said = locks_of(libc)
    for code in [errno.ENOMEM, errno.EAGAIN] * 500:
        libc.codes["mlock2"] = code
        locks.lock(HERE, 1)
    assert said == [sentence_for(errno.ENOMEM), sentence_for(errno.EAGAIN)]
    other, said_anew = locks_of(libc)
    other.lock(HERE, 1)
    assert len(said_anew) == 1


def test_lock_from_many_threads_never_passes_the_budget() -> None:
    """Reserved before the system call, returned at any moment, and all of it in the end."""
    budget = 5 * PAGE
    locks, _ = locks_of(FakeLibc(), budget)
    most = 0
    guard = threading.Lock()
    held = 0

    def work(_: int) -> None:
        nonlocal held, most
        got = locks.lock(HERE, 2 * PAGE)
        with guard:
            held += got
            most = max(most, held)
        with guard:
            held -= got
        if got:
            locks.give_back(got)

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(work, range(2_000)))
    assert 0 < most <= budget
    assert locks.locked_bytes == 0


def test_lock_lets_other_threads_lock_during_its_system_call() -> None:
    """The lock of the accounting is not held across the call, which may read a disk."""
    entered, go_on = threading.Event(), threading.Event()

    class Slow(FakeLibc):
        def mlock2(self, address: int, nbytes: int, flags: int) -> int:
            if address == 0:
                entered.set()
                assert go_on.wait(10)
            return super().mlock2(address, nbytes, flags)

    locks, _ = locks_of(Slow())
    thread = threading.Thread(target=locks.lock, args=(0, PAGE))
    thread.start()
    assert entered.wait(10)
    assert locks.lock(HERE, PAGE) == PAGE
    assert locks.locked_bytes == 2 * PAGE
    go_on.set()
    thread.join()


def test_give_back_inside_the_accounting_does_not_deadlock() -> None:
    """A finalizer may run in any statement of the thread that holds the lock."""
    locks, _ = locks_of(FakeLibc())
    locks.lock(HERE, PAGE)
    with locks._lock:
        locks.give_back(PAGE)
    assert locks.locked_bytes == 0


def test_populate_asks_in_steps_that_cover_the_mapping() -> None:
    """Every byte once and in order, in steps that let others map meanwhile."""
    libc = FakeLibc()
    nbytes = (20 << 20) + 5
    locks_of(libc)[0].populate(HERE, nbytes)
    assert [name for name, *_ in libc.calls] == ["populate"] * 3
    assert [start for _, start, _ in libc.calls] == [HERE, HERE + (8 << 20), HERE + (16 << 20)]
    assert sum(step for *_, step in libc.calls) == nbytes


def test_populate_falls_back_to_willneed() -> None:
    """Before Linux 5.14 the whole range is at least read ahead."""
    libc = FakeLibc(populate=errno.EINVAL)
    locks_of(libc)[0].populate(HERE, 5 * PAGE)
    assert libc.calls == [("populate", HERE, 5 * PAGE), ("willneed", HERE, 5 * PAGE)]


@pytest.mark.parametrize("code", [errno.EFAULT, EHWPOISON, errno.ENOMEM])
def test_populate_ignores_every_other_failure(code: int) -> None:
    """A file that shrank is found out by whoever looks at it before reading; nothing is said."""
    libc = FakeLibc(populate=code)
    locks, said = locks_of(libc)
    locks.populate(HERE, 20 << 20)
    assert len(libc.calls) == 1
    assert said == []


def test_address_of_is_where_the_mapping_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    """On a page, inside the process: the kernel locks and unlocks exactly there."""
    path = tmp_path_factory.mktemp("file") / "file"
    path.write_bytes(os.urandom(3 * PAGE))
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED) as mapped,
    ):
        address = address_of(mapped)
        assert address % PAGE == 0
        before = kernel_locked_bytes()
        assert LIBC.mlock(address, 2 * PAGE) == 0
        assert kernel_locked_bytes() == before + 2 * PAGE
        assert LIBC.munlock(address, 2 * PAGE) == 0
        assert kernel_locked_bytes() == before
    # Closing raised nothing: the buffer was released.


def test_system_library_answers_with_the_errno() -> None:
    """Of the call itself; a function that libc lacks is ENOSYS."""
    libc = SystemLibc()
    assert libc.mlock2(HERE, PAGE, 0x7FFF) == errno.EINVAL
    assert libc.madvise(HERE, PAGE, 12_345) == errno.EINVAL
    assert libc._call("no_such_function", HERE, PAGE) == errno.ENOSYS

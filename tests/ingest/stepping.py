"""The writer of days, call by call: killed before any of them, or held up between any two."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import pytest

from zerocopy.ingest import daywriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGING = ("mkdir", "open", "rename", "unlink", "fsync", "fstat", "stat", "listdir")
"""Calls of os that a writer is killed before, or held up at."""

DEADLINE_S = 30


class KilledError(BaseException):
    """As SIGKILL: nothing catches it, and nothing on the way out changes a file."""


class _Os:
    """The module os, with a gate before what changes or looks."""

    def __init__(self, gate: Callable[[], None]) -> None:
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in CHANGING:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._gate()
            return found(*arguments, **options)

        return call


@contextmanager
def killed_before(call: int) -> Iterator[None]:
    """Kill the writer before its call of that number; later ones die as well."""
    left = call

    def gate() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daywriter, "os", _Os(gate))
        yield


class Stepped:
    """A writer in a thread of its own that makes a call only when it is told to."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._may_go = threading.Semaphore(0)
        self._waits = threading.Semaphore(0)
        self.is_over = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(write,))

    def __enter__(self) -> Self:
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(daywriter, "os", _Os(self._gate))
        self._thread.start()
        self._await()
        return self

    def __exit__(self, *_: object) -> None:
        while not self.is_over:
            self.step()
        self._thread.join(DEADLINE_S)
        self._patch.undo()
        if self._error is not None:
            raise self._error

    def step(self, calls: int = 1) -> None:
        """Let some calls happen."""
        for _ in range(calls):
            if self.is_over:
                return
            self._may_go.release()
            self._await()

    def _await(self) -> None:
        assert self._waits.acquire(timeout=DEADLINE_S), "the writer does not come"

    def _gate(self) -> None:
        if threading.current_thread() is self._thread:
            self._waits.release()
            assert self._may_go.acquire(timeout=DEADLINE_S), "the writer is not let go"

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:  # noqa: BLE001 - raised again by `__exit__`
            self._error = error
        self.is_over = True
        self._waits.release()

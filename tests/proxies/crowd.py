"""Clients that ask again and again through a proxy, and a count of what they were answered."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Self

from tests.faults.client import Client, Listener, request_of

RIGHT = "right"
PAUSE_S = 0.004
"""Between two requests of a client: a crowd is not there to keep a processor busy."""


class Crowd:
    """`clients` threads, each with a kept connection, from enter until exit.

    Each answer must be a 200 with exactly `body`; anything else is counted by its status or error,
    and its client goes on with a new connection.
    """

    def __init__(
        self,
        listener: Listener,
        target: str,
        body: bytes,
        *,
        clients: int = 8,
    ) -> None:
        self._listener = listener
        self._request = request_of(target)
        self._body = body
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.answers: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the last answers come."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until `count` more answers were right."""
        wanted = self.answers[RIGHT] + count
        deadline = time.monotonic() + timeout_s
        while self.answers[RIGHT] < wanted:
            assert time.monotonic() < deadline, f"no further answers: {self.answers}"
            time.sleep(0.01)

    def wrong(self) -> Counter[str]:
        """What was not right, and how often."""
        answers = dict(self.answers)  # the threads go on adding
        return Counter({key: count for key, count in answers.items() if key != RIGHT})

    def _ask(self) -> None:
        while not self._is_over.is_set():
            try:
                with Client(self._listener) as client:
                    while not self._is_over.wait(PAUSE_S):
                        client.send(self._request)
                        answer = client.answer()
                        is_right = (answer.status, answer.content) == (200, self._body)
                        self.answers[RIGHT if is_right else str(answer.status)] += 1
                        if answer.fields.get("connection") == "close":
                            break
            except (OSError, EOFError, ValueError) as error:
                self.answers[repr(error)] += 1

"""Kept responses: from everything that chooses a response to the response and its proof.

Owns the bytes they take together. Nothing is believed because it is here: the service asks the
proof for every request. Used in the event loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import AnswerKey, Response
    from zerocopy.storage.proof import Proof

STAMP_BYTES = 450
"""A stamp with its path in a proof: sys.getsizeof of its parts, measured on CPython 3.11."""

SEGMENT_BYTES = 350
"""A segment with its share of a day file, measured in the same way."""

ANSWER_BYTES = 2_300
"""The rest of an answer: response, fields, rendered heads, its 304, dictionary entry."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is true while `proof` holds, from `begins_s` until `expires_s`.

    Both are unix seconds: the moment when the last open day closes, and with it Cache-Control
    changes, bounds the answer from one side or the other. A clock may be set back over it.
    """

    response: Response
    proof: Proof
    begins_s: float
    expires_s: float

    def nbytes(self, key: AnswerKey) -> int:
        """About how much memory it takes."""
        return (
            ANSWER_BYTES
            + len(key if isinstance(key, bytes) else key[0])
            + len(self.response.content)
            + SEGMENT_BYTES * len(self.response.segments)
            + STAMP_BYTES * len(self.proof.stamps)
        )


class Answers:
    """At most `nbytes_max` bytes of answers, the least recently used dropped first."""

    def __init__(self, nbytes_max: int, counters: Counters) -> None:
        self._nbytes_max = nbytes_max
        self._nbytes = 0
        self._counters = counters
        self._answers: OrderedDict[AnswerKey, Answer] = OrderedDict()

    def get(self, key: AnswerKey) -> Answer | None:
        """The answer last given for `key`, still to be proved."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: AnswerKey, answer: Answer) -> None:
        """Keep an answer, unless it alone is a quarter of all the room there is."""
        self.drop(key)
        nbytes = answer.nbytes(key)
        if nbytes > self._nbytes_max // 4:
            return
        self._answers[key] = answer
        self._nbytes += nbytes
        while self._nbytes > self._nbytes_max:
            oldest, evicted = self._answers.popitem(last=False)
            self._nbytes -= evicted.nbytes(oldest)
        self._counters[slots.PLAN_CACHE_BYTES] = self._nbytes

    def drop(self, key: AnswerKey) -> None:
        """Forget an answer that no longer holds."""
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._nbytes -= answer.nbytes(key)
            self._counters[slots.PLAN_CACHE_BYTES] = self._nbytes

"""Answers: what is kept, what is dropped first, and what it weighs."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.counters import SLOTS
from zerocopy.core.http.messages import Response
from zerocopy.service.answers import ANSWER_BYTES, STAMP_BYTES, Answer, Answers
from zerocopy.storage.catalog import Stamp
from zerocopy.storage.proof import Proof

if TYPE_CHECKING:
    from zerocopy.core.http.messages import AnswerKey


def of(target: bytes) -> AnswerKey:
    """What chooses the answer to a target that has one form alone."""
    return target


def make_answer(content_bytes: int = 0, stamps: int = 0) -> Answer:
    """An answer of a certain weight."""
    proof = Proof((("/path", Stamp(1, 2, 3, 4)),) * stamps, reusable=True)
    return Answer(Response(200, (), b"x" * content_bytes), proof, 0.0, math.inf)


def make_answers(nbytes_max: int) -> tuple[Answers, list[int]]:
    """An empty store and its counters."""
    counters = [0] * len(SLOTS)
    return Answers(nbytes_max, counters), counters


def test_answer_weighs_its_key_content_and_proof() -> None:
    """The weight grows with all that grows."""
    assert make_answer().nbytes(of(b"")) == ANSWER_BYTES
    assert make_answer(100, 2).nbytes(of(b"abc")) == ANSWER_BYTES + 103 + 2 * STAMP_BYTES


def test_least_recently_used_answer_is_dropped_first() -> None:
    """Asking for an answer keeps it; the one nobody asks for goes."""
    answers, _ = make_answers(4 * ANSWER_BYTES + 4)
    for key in (of(b"a"), of(b"b"), of(b"c"), of(b"d")):
        answers.put(key, make_answer())
    assert answers.get(of(b"a")) is not None
    answers.put(of(b"e"), make_answer())
    assert answers.get(of(b"b")) is None
    assert all(answers.get(of(target)) for target in (b"a", b"c", b"d", b"e"))


def test_answer_of_more_than_a_quarter_is_not_kept() -> None:
    """One giant must not push everything else out, and replaces nothing but its own older self."""
    answers, counters = make_answers(8 * ANSWER_BYTES)
    answers.put(of(b"small"), make_answer())
    answers.put(of(b"giant"), make_answer())
    answers.put(of(b"giant"), make_answer(2 * ANSWER_BYTES))
    assert answers.get(of(b"giant")) is None
    assert answers.get(of(b"small")) is not None
    assert counters[slots.PLAN_CACHE_BYTES] == ANSWER_BYTES + 5


def test_weight_is_exact_after_anything() -> None:
    """After random puts, replacements and drops the gauge is the sum of what is there."""
    rng = random.Random(3)
    answers, counters = make_answers(30 * ANSWER_BYTES)
    for _ in range(3_000):
        key = of(b"%d" % rng.randrange(60))
        if rng.random() < 0.3:
            answers.drop(key)
        else:
            answers.put(key, make_answer(rng.randrange(3_000), rng.randrange(3)))
        weights = [answer.nbytes(key) for key, answer in answers._answers.items()]
        assert answers._nbytes == sum(weights) <= 30 * ANSWER_BYTES
    assert counters[slots.PLAN_CACHE_BYTES] == answers._nbytes
    for key in list(answers._answers):
        answers.drop(key)
    assert counters[slots.PLAN_CACHE_BYTES] == 0

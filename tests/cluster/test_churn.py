"""Ten thousand queries over a thousand symbols while nodes come and go."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from bench.cluster_ring import Ring, hashes_of
from tests.cluster.conftest import RECORDS, SYMBOLS
from tests.cluster.front import Front, Node, number_of
from tests.faults.client import Client, request_of

if TYPE_CHECKING:
    from collections.abc import Callable

QUERIES = 10_000
CLIENTS = 8


class Asker(threading.Thread):
    """Asks for symbols by chance, one after the other, and keeps what became of each query."""

    def __init__(self, front: Front, seed: int, homes: list[int]) -> None:
        super().__init__()
        self._front = front
        self._random = random.Random(seed)
        self._homes = homes
        self.durations_s: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.at_home = 0

    def run(self) -> None:
        """All of its queries; a connection that breaks is opened again, and counted."""
        client = Client(self._front)
        for _ in range(QUERIES // CLIENTS):
            symbol = self._random.randrange(SYMBOLS)
            target = (
                f"/api/data?exchange=binance&symbol=S{symbol}&type=MD&start=0&end=9&columns=price"
            )
            began_s = time.perf_counter()
            try:
                client.send(request_of(target))
                answer = client.answer()
            except (OSError, EOFError) as error:
                self.outcomes[repr(error)] += 1
                client.close()
                client = Client(self._front)
                continue
            self.durations_s.append(time.perf_counter() - began_s)
            is_right = answer.status == 200 and len(answer.content) > 4 * min(10, RECORDS)
            self.outcomes["right" if is_right else str(answer.status)] += 1
            self.at_home += number_of(answer.fields) == self._homes[symbol] if is_right else 0
        client.close()


@pytest.mark.slow
@pytest.mark.parametrize("end", [Node.stop, Node.kill], ids=["stopped", "killed"])
def test_queries_while_nodes_come_and_go(
    front: Front,
    three: list[Node],
    end: Callable[[Node], object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nodes that stop fail no query; one that is killed cuts off what it was sending, at most."""
    hashes = hashes_of(f"binance/S{symbol}" for symbol in range(SYMBOLS))
    homes = [int(node) + 1 for node in Ring([1, 2, 3]).homes(hashes)]
    askers = [Asker(front, seed, homes) for seed in range(CLIENTS)]
    for asker in askers:
        asker.start()
    ends = 0
    while any(asker.is_alive() for asker in askers):
        number = ends % 3 + 1
        end(three[number - 1])
        ends += 1
        three[number - 1].start_again()
        front.await_states({f"NODE{number}": "UP"})
    outcomes = sum((asker.outcomes for asker in askers), Counter[str]())
    durations_s = sorted(duration for asker in askers for duration in asker.durations_s)
    wrong = outcomes.total() - outcomes["right"]
    with capsys.disabled():
        print(  # noqa: T201 - what the run is for
            f"\n{ends} times {end.__name__}; of {outcomes.total()} queries {wrong} not answered; "
            f"{sum(asker.at_home for asker in askers) / outcomes.total():.1%} by their own node; "
            f"p50 {durations_s[len(durations_s) // 2] * 1e3:.1f} ms, "
            f"p99 {durations_s[len(durations_s) * 99 // 100] * 1e3:.1f} ms, "
            f"max {durations_s[-1] * 1e3:.0f} ms"
        )
    assert outcomes.total() == QUERIES
    assert wrong <= (0 if end is Node.stop else ends * CLIENTS), outcomes
    assert set(outcomes) <= {"right", "EOFError('the answer was cut off')"}, outcomes

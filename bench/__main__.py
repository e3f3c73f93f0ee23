"""`python -m bench`: zerocopy beside its peers, one core for the server and one for the client.

Owns the order of things: data, servers, the proof that all give the same bytes, then interleaved
rounds. Where nginx, wrk or h2load is missing it says so and measures what is left.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.clients import ClientError
from bench.fetch import fetch
from bench.machine import describe_machine
from bench.measure import (
    Contest,
    Options,
    measure_large,
    measure_small,
    measure_tls_large,
    measure_tls_small,
    progress,
)
from bench.peers import (
    Endpoint,
    Nginx,
    StockHypercorn,
    missing,
    pinned,
    zerocopy,
)
from bench.report import Section, markdown, svg
from bench.workload import LARGE_RECORDS, SMOKE_RECORDS, make_workload

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bench.report import Machine
    from bench.workload import Workload
    from tests.server import RunningServer

QUESTIONS = ("small", "large", "tls-small", "tls-large")
CONNECTIONS = 16
CONNECTIONS_MANY = 64
TLS_CONNECTIONS, TLS_STREAMS = 8, 10
WARM_UP_TIMEOUT_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every measurement")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each in a round")
    parser.add_argument("--only", default=",".join(QUESTIONS), help="some of %(default)s")
    parser.add_argument("--smoke", action="store_true", help="one short round: does it still run?")
    parser.add_argument("--markdown", metavar="FILE", help="write the report there too")
    parser.add_argument("--svg", metavar="FILE", help="write a picture of it")
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    questions = frozenset(given.only.split(","))
    if not questions <= {*QUESTIONS}:
        parser.error(f"--only takes some of {','.join(QUESTIONS)}")
    options = Options(
        rounds=1 if given.smoke else given.rounds,
        seconds=1 if given.smoke else given.seconds,
        smoke=given.smoke,
    )
    # A polite kill unwinds as Ctrl-C does: servers stop, the temporary directory goes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        machine, sections = run(options, questions)
    except (ClientError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    page = markdown(machine, sections)
    print(page)
    for path, text in ((given.markdown, page), (given.svg, svg(machine, sections))):
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    return 0


def run(options: Options, questions: Collection[str]) -> tuple[Machine, list[Section]]:
    """Start the servers on the first core, measure from the last."""
    cores = sorted(os.sched_getaffinity(0))
    load_before = os.getloadavg()[0]
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="zerocopy-bench-"))
        progress("making the data")
        records = SMOKE_RECORDS if options.smoke else LARGE_RECORDS
        workload = make_workload(os.path.join(directory, "data"), records)
        stack.enter_context(pinned(cores[-1]))
        servers = Servers(stack, cores[0], directory, workload)
        contests = servers.start({question for question in questions if not skipped(question)})
        sections = [
            section
            for question in QUESTIONS
            if question in questions
            for section in measure(options, question, contests)
        ]
    rounds = f"{options.rounds} rounds of {options.seconds} s, interleaved; medians over rounds"
    return describe_machine(cores, load_before, "smoke run" if options.smoke else rounds), sections


def skipped(question: str) -> str | None:
    """Why a question cannot be put to any server at all, or None."""
    return missing("h2load") if question.startswith("tls-") else None


def measure(options: Options, question: str, contests: dict[str, Contest]) -> list[Section]:
    """The sections of one question; its variants are not part of a smoke run."""
    contest = contests.get(question)
    if contest is None:
        title = (
            "C. HTTP/2 over TLS, small" if question == "tls-small" else "D. HTTP/2 over TLS, large"
        )
        return [
            Section(title=f"{title} answers", unit="", client="h2load", skipped=skipped(question))
        ]
    if question == "small":
        counts = (CONNECTIONS,) if options.smoke else (CONNECTIONS, CONNECTIONS_MANY)
        return [measure_small(options, contest, connections) for connections in counts]
    if question == "large":
        return [measure_large(options, contest)]
    if question == "tls-small":
        sections = [measure_tls_small(options, contest, TLS_CONNECTIONS, TLS_STREAMS)]
        if not options.smoke:
            sections.append(measure_tls_small(options, contest, CONNECTIONS, 1))
        return sections
    return [measure_tls_large(options, contest)]


# ---- servers


class Servers:
    """Starts what is there on `core`, and checks that all of it gives the same bytes."""

    def __init__(self, stack: ExitStack, core: int, directory: str, workload: Workload) -> None:
        self._stack = stack
        self._core = core
        self._directory = directory
        self._targets = {"small": workload.small_target, "large": workload.large_target}
        self._root = workload.root
        self._cores = frozenset({core, *os.sched_getaffinity(0)})

    def start(self, questions: Collection[str]) -> dict[str, Contest]:
        """Everything that `questions` need, by question."""
        ours: dict[str, Endpoint] = {}
        others: dict[str, list[Endpoint]] = {}
        if not {"small", "large"}.isdisjoint(questions):
            ours |= self._start_zerocopy("", is_tls=False)
        if not {"tls-small", "tls-large"}.isdisjoint(questions):
            ours |= self._start_zerocopy("tls-", is_tls=True)
            others = self._start_stock_hypercorn()
        nginx = self._start_nginx(ours)
        contests = {}
        for question in questions:
            expected = fetch(ours[question])
            variants = nginx.endpoints(question) if nginx is not None else {}
            contests[question] = Contest(
                ours=ours[question],
                nginx=variants,
                others=others.get(question, []),
                nbytes=len(expected),
                cores=self._cores,
            )
            for variant, endpoint in variants.items():
                check_same(expected, endpoint, f" ({variant})")
            for endpoint in others.get(question, []):
                check_same(expected, endpoint)
        return contests

    def _start_zerocopy(self, prefix: str, *, is_tls: bool) -> dict[str, Endpoint]:
        with pinned(self._core):
            server = self._stack.enter_context(zerocopy(self._root, is_tls=is_tls))
        worker_pid = server.worker_pids()[0]
        endpoints = {
            f"{prefix}{size}": Endpoint("zerocopy", server.port, target, worker_pid, is_tls)
            for size, target in self._targets.items()
        }
        for endpoint in endpoints.values():
            warm_up(server, endpoint)
        return endpoints

    def _start_stock_hypercorn(self) -> dict[str, list[Endpoint]]:
        prefix = f"{self._directory}/hypercorn"
        with pinned(self._core):
            server = self._stack.enter_context(StockHypercorn(prefix, self._root))
        return {f"tls-{size}": [server.endpoint(target)] for size, target in self._targets.items()}

    def _start_nginx(self, ours: dict[str, Endpoint]) -> Nginx | None:
        """It serves files with the bodies of ours; None where it is missing."""
        if missing(Nginx.name) is not None:
            return None
        protocol = "" if "small" in ours else "tls-"
        small, large = (fetch(ours[f"{protocol}{size}"]) for size in self._targets)
        prefix = f"{self._directory}/nginx"
        with pinned(self._core):
            return self._stack.enter_context(Nginx(prefix, small, large))


def warm_up(server: RunningServer, endpoint: Endpoint) -> None:
    """Ask until the plan is old enough to be used again."""
    deadline = time.monotonic() + WARM_UP_TIMEOUT_S
    reused = server.metric("zerocopy_plans_reused_total")
    while server.metric("zerocopy_plans_reused_total") == reused:
        fetch(endpoint)
        if time.monotonic() > deadline:
            raise RuntimeError("zerocopy never reused the plan")


def check_same(expected: bytes, endpoint: Endpoint, variant: str = "") -> None:
    """Raise RuntimeError unless a body is byte for byte that of zerocopy."""
    if hashlib.sha256(fetch(endpoint)).digest() != hashlib.sha256(expected).digest():
        raise RuntimeError(f"{endpoint.name}{variant} does not give the bytes that zerocopy gives")


if __name__ == "__main__":
    sys.exit(main())

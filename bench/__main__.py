"""`python -m bench`: zerocopy beside its peers, one core for the server and one for the client.

Owns the order of things: data, questions, report. A question is a name and what answers it; to add
one, write what yields its `Table` and name it in `QUESTIONS`. Where a tool is missing its sections
say so and the rest is measured.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from bench.arrow import measure_arrow
from bench.bars import measure_bars, measure_billion
from bench.bars_beside import measure_bars_beside
from bench.client import measure_client
from bench.clients import ClientError
from bench.compression import measure_compression
from bench.fairness import measure_fairness
from bench.importing import measure_import
from bench.keys import measure_keys
from bench.live import measure_live
from bench.live_beside import measure_live_beside
from bench.machine import describe_machine
from bench.page import measure_page
from bench.peers import pinned
from bench.picture import svg
from bench.rates import measure_rates
from bench.recording import measure_recording
from bench.report import markdown
from bench.rounds import SMOKE_S, Options, progress
from bench.scaling import measure_scaling
from bench.servers import Servers
from bench.slow_readers import measure_slow_readers
from bench.store import measure_store
from bench.workload import LARGE_RECORDS, SMOKE_RECORDS, make_workload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from bench.section import Machine, Section, Table

QUESTIONS: dict[str, Callable[[Options, Servers], Iterable[Section | Table]]] = {
    **{
        f"{path}-{size}": partial(measure_rates, path=path, size=size)
        for path in ("plain", "tls")
        for size in ("4k", "64k", "1m", "48m")
    },
    "fairness": measure_fairness,
    "fairness-tls": partial(measure_fairness, path="tls"),
    "slow-readers": measure_slow_readers,
    "scaling": measure_scaling,
    "keys": measure_keys,
    "bars": measure_bars,
    "billion": measure_billion,
    "bars-beside": measure_bars_beside,
    "arrow": measure_arrow,
    "compression": measure_compression,
    "live": measure_live,
    "live-beside": measure_live_beside,
    "import": measure_import,
    "client": measure_client,
    "page": measure_page,
    "ingest": measure_recording,
    "store": measure_store,
}
"""In the order of the report."""

ASKED_BY_NAME = frozenset({"billion"})
"""Those that are measured only where `--only` names them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every measurement")
    parser.add_argument("--seconds", type=int, default=2, help="seconds of each in a round")
    parser.add_argument(
        "--only", metavar="NAMES", help=f"some of {','.join(QUESTIONS)}; plain and tls are groups"
    )
    parser.add_argument("--smoke", action="store_true", help="one short round: does it still run?")
    parser.add_argument("--markdown", metavar="FILE", help="write the report there too")
    parser.add_argument("--svg", metavar="FILE", help="write a picture of it")
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    questions = chosen(given.only)
    if questions is None:
        parser.error(f"--only takes plain, tls, or some of {','.join(QUESTIONS)}")
    options = Options(
        rounds=1 if given.smoke else given.rounds,
        seconds=SMOKE_S if given.smoke else given.seconds,
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


def chosen(only: str | None) -> list[str] | None:
    """The names of the questions, in the order of the report; None where one is unknown."""
    names = set(QUESTIONS.keys() - ASKED_BY_NAME if only is None else only.split(","))
    for group in names & {"plain", "tls"}:
        names.remove(group)
        names |= {question for question in QUESTIONS if question.startswith(f"{group}-")}
    return (
        [question for question in QUESTIONS if question in names] if names <= {*QUESTIONS} else None
    )


def run(options: Options, questions: Collection[str]) -> tuple[Machine, list[Section | Table]]:
    """Start the servers on the first core, measure from the last."""
    cores = sorted(os.sched_getaffinity(0))
    load_before = os.getloadavg()[0]
    begun_s = time.monotonic()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="zerocopy-bench-"))
        progress("making the data")
        records = SMOKE_RECORDS if options.smoke else LARGE_RECORDS
        workload = make_workload(os.path.join(directory, "data"), records)
        servers = Servers(stack, directory, workload)
        stack.enter_context(pinned(servers.client_core))
        sections = [section for name in questions for section in QUESTIONS[name](options, servers)]
    minutes = (time.monotonic() - begun_s) / 60
    rounds = (
        f"{options.rounds} rounds of {options.seconds} s, interleaved; medians over rounds; "
        f"{minutes:.0f} minutes in all"
    )
    return describe_machine(cores, load_before, "smoke run" if options.smoke else rounds), sections


if __name__ == "__main__":
    sys.exit(main())

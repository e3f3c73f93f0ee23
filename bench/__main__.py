"""`python -m bench`: zerocopy beside nginx, one core for the server and one for the client.

Owns the order of things: data, servers, the proof that both give the same bytes, then interleaved
rounds. Where nginx or wrk is missing it says so and measures what is left.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import math
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from bench.clients import ClientError, run_discard, run_wrk
from bench.peers import Endpoint, Meter, Nginx, missing, pinned, zerocopy
from bench.report import Machine, Round, Section, markdown, svg
from bench.workload import LARGE_RECORDS, SMOKE_RECORDS, make_workload

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from bench.workload import Workload
    from tests.server import RunningServer

CONNECTIONS = 16
CONNECTIONS_MANY = 64
WARM_UP_TIMEOUT_S = 10.0
SMOKE_DISCARD_S = 0.3

OTHERS_SHARE_MAX = 0.03
"""Of both cores, in a round that counts as undisturbed."""

ATTEMPTS = 3
"""Rounds taken at most for each one that is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much to measure."""

    rounds: int
    seconds: int
    smoke: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Everything that may be asked; the nginx tables are empty where it is missing."""

    zerocopy_small: Endpoint
    zerocopy_large: Endpoint
    nginx_small: dict[str, Endpoint]
    nginx_large: dict[str, Endpoint]
    small_bytes: int
    large_bytes: int
    cores: frozenset[int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every measurement")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each in a round")
    parser.add_argument("--smoke", action="store_true", help="one short round: does it still run?")
    parser.add_argument("--markdown", metavar="FILE", help="write the report there too")
    parser.add_argument("--svg", metavar="FILE", help="write a picture of it")
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    options = Options(
        rounds=1 if given.smoke else given.rounds,
        seconds=1 if given.smoke else given.seconds,
        smoke=given.smoke,
    )
    # A polite kill unwinds as Ctrl-C does: servers stop, the temporary directory goes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        machine, sections = run(options)
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


def run(options: Options) -> tuple[Machine, list[Section]]:
    """Start the servers on the first core, measure from the last."""
    cores = sorted(os.sched_getaffinity(0))
    load_before = os.getloadavg()[0]
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="zerocopy-bench-"))
        progress("making the data")
        records = SMOKE_RECORDS if options.smoke else LARGE_RECORDS
        workload = make_workload(os.path.join(directory, "data"), records)
        stack.enter_context(pinned(cores[-1]))
        servers = start_servers(stack, cores[0], directory, workload)
        sections = [
            measure_small(options, servers, CONNECTIONS),
            *([] if options.smoke else [measure_small(options, servers, CONNECTIONS_MANY)]),
            measure_large(options, servers),
        ]
    return describe_machine(cores, load_before, options), sections


# ---- servers


def start_servers(stack: ExitStack, core: int, directory: str, workload: Workload) -> Servers:
    """Start what is there on `core`, and check that all of it gives the same bytes."""
    with pinned(core):
        server = stack.enter_context(zerocopy(workload.root))
    small, large = warm_up(server, workload)
    nginx: Nginx | None = None
    if missing("nginx") is None:
        with pinned(core):
            nginx = stack.enter_context(Nginx(os.path.join(directory, "nginx"), small, large))
    worker = server.worker_pids()[0]
    servers = Servers(
        zerocopy_small=Endpoint("zerocopy", server.port, workload.small_target, worker),
        zerocopy_large=Endpoint("zerocopy", server.port, workload.large_target, worker),
        nginx_small=nginx.small() if nginx is not None else {},
        nginx_large=nginx.large() if nginx is not None else {},
        small_bytes=len(small),
        large_bytes=len(large),
        cores=frozenset({core, *os.sched_getaffinity(0)}),
    )
    check_same(servers.zerocopy_small, servers.nginx_small)
    check_same(servers.zerocopy_large, servers.nginx_large)
    return servers


def warm_up(server: RunningServer, workload: Workload) -> tuple[bytes, bytes]:
    """Both bodies, asked for until both plans are old enough to be used again."""
    deadline = time.monotonic() + WARM_UP_TIMEOUT_S
    bodies: list[bytes] = []
    for target in (workload.small_target, workload.large_target):
        reused = server.metric("zerocopy_plans_reused_total")
        while server.metric("zerocopy_plans_reused_total") == reused:
            answer = server.get(target)
            if answer.status != http.HTTPStatus.OK or time.monotonic() > deadline:
                raise RuntimeError(f"zerocopy answered {answer.status}, or never reused the plan")
        bodies.append(answer.content)
    small, large = bodies
    return small, large


def check_same(ours: Endpoint, theirs: dict[str, Endpoint]) -> None:
    """Raise RuntimeError unless every variant's body is byte for byte that of zerocopy."""
    expected = body_digest(ours)
    for variant, endpoint in theirs.items():
        if body_digest(endpoint) != expected:
            raise RuntimeError(f"nginx ({variant}) does not give the bytes that zerocopy gives")


def body_digest(endpoint: Endpoint) -> str:
    """The SHA-256 of a body."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
    try:
        connection.request("GET", endpoint.target)
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{endpoint.name} answered {response.status} to {endpoint.target}")
        return hashlib.sha256(response.read()).hexdigest()
    finally:
        connection.close()


# ---- measuring


def measure_small(options: Options, servers: Servers, connections: int) -> Section:
    """Section A: requests a second of about 4 KB."""
    section = Section(
        title=f"A. {servers.small_bytes:,}-byte answers, {connections} connections",
        unit="requests",
        client=f"wrk, 1 thread, {connections} connections, keep-alive",
        skipped=missing("wrk"),
    )
    if section.skipped is not None:
        return section

    def measure(endpoint: Endpoint, seconds: int) -> Round:
        meter = Meter(endpoint.pid, servers.cores)
        done = run_wrk(endpoint, connections=connections, seconds=seconds)
        cpu_s, others_share = meter.read()
        return Round(
            units=done.requests,
            seconds=done.seconds,
            cpu_s=cpu_s,
            others_share=others_share,
            p50_us=done.p50_us,
            p99_us=done.p99_us,
        )

    best = choose(options, section, servers.nginx_small, measure)
    take_rounds(options, section, [servers.zerocopy_small, *best], measure)
    return section


def measure_large(options: Options, servers: Servers) -> Section:
    """Section B: GB a second to a client that drops them."""
    section = Section(
        title=f"B. {servers.large_bytes / 1e6:.0f} MB answers",
        unit="GB",
        client="one connection, keep-alive, bytes dropped by the kernel (recv with MSG_TRUNC)",
    )

    def measure(endpoint: Endpoint, seconds: int) -> Round:
        meter = Meter(endpoint.pid, servers.cores)
        done = run_discard(endpoint, seconds=SMOKE_DISCARD_S if options.smoke else seconds)
        cpu_s, others_share = meter.read()
        return Round(
            units=done.nbytes / 1e9, seconds=done.seconds, cpu_s=cpu_s, others_share=others_share
        )

    best = choose(options, section, servers.nginx_large, measure)
    take_rounds(options, section, [servers.zerocopy_large, *best], measure)
    return section


def choose(
    options: Options,
    section: Section,
    variants: dict[str, Endpoint],
    measure: Callable[[Endpoint, int], Round],
) -> list[Endpoint]:
    """The variant of nginx that does most in a processor second, by two interleaved trials.

    Processor seconds, because a neighbour on the core would decide it by the clock. Nothing where
    nginx is missing, the first variant in a smoke run.
    """
    if not variants:
        section.notes.append(f"nginx skipped: {missing('nginx')}")
        return []
    costs_s = dict.fromkeys(variants, math.inf)  # the lower one: noise only ever adds
    for _ in range(0 if options.smoke else 2):
        for variant, endpoint in variants.items():
            progress(f"{section.title}: trying nginx with {variant}")
            costs_s[variant] = min(costs_s[variant], measure(endpoint, 1).cpu_s_per_unit)
    best = min(costs_s, key=costs_s.__getitem__)
    section.notes.append(f"nginx runs with {best}")
    if not options.smoke:
        costs = (f"{variant}: {section.cpu(cost_s)}" for variant, cost_s in costs_s.items())
        section.notes.append(f"nginx tried, {section.cpu_unit}: {'; '.join(costs)}")
    return [variants[best]]


def take_rounds(
    options: Options,
    section: Section,
    endpoints: list[Endpoint],
    measure: Callable[[Endpoint, int], Round],
) -> None:
    """Every server in turn, again and again: drift of the machine meets all of them alike.

    Until there are enough rounds that nobody disturbed, or `ATTEMPTS` times as many were taken;
    then the least disturbed ones count, in the order of time.
    """
    taken: list[tuple[float, list[Round]]] = []
    attempts_max = options.rounds * (1 if options.smoke else ATTEMPTS)
    while len(taken) < attempts_max and quiet(taken) < options.rounds:
        turn = []
        for endpoint in endpoints:
            progress(f"{section.title}: round {len(taken) + 1}, {endpoint.name}")
            turn.append(measure(endpoint, options.seconds))
        taken.append((max(round_.others_share for round_ in turn), turn))
    most = sorted(others_share for others_share, _ in taken)[options.rounds - 1]
    kept = [turn for others_share, turn in taken if others_share <= most][: options.rounds]
    for position, endpoint in enumerate(endpoints):
        section.rounds[endpoint.name] = [turn[position] for turn in kept]
    if most > OTHERS_SHARE_MAX and not options.smoke:
        section.notes.append(
            "a busy machine: trust the ratio by processor seconds, not the one by the clock"
        )
    if len(taken) > len(kept):
        section.notes.append(
            f"{len(taken)} rounds taken, the {len(kept)} counted that other processes disturbed "
            "least"
        )


def quiet(taken: list[tuple[float, list[Round]]]) -> int:
    """How many rounds nobody disturbed."""
    return sum(others_share <= OTHERS_SHARE_MAX for others_share, _ in taken)


# ---- what it ran on


def describe_machine(cores: list[int], load_before: float, options: Options) -> Machine:
    """Date, commit, machine and versions."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit = (
        output("git", "describe", "--always", "--dirty= with changes", accept=(0,)) or "unknown"
    )
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    python = f"CPython {sys.version.split()[0]} ({'PGO' if optimized else 'no PGO'} build)"
    packages = ", ".join(f"{name} {version(name)}" for name in ("zerocopy", "uvloop", "httptools"))
    pinning = (
        f"server on core {cores[0]}, client on core {cores[-1]}"
        if len(cores) > 1
        else "ONE core for server and client together: the figures say little"
    )
    load_after = os.getloadavg()[0]
    return Machine(
        date=date,
        commit=commit or "unknown",
        lines=(
            f"{date}, commit {commit or 'unknown'}{', smoke run' if options.smoke else ''}",
            f"{options.rounds} rounds of {options.seconds} s, interleaved; medians over rounds",
            f"{cpu_model()}, {len(cores)} cores; {pinning}",
            f"Linux {os.uname().release}; load average {load_before:.2f} to {load_after:.2f}",
            f"{python}; {packages}",
            f"{tool_version('nginx', '-v')}; {tool_version('wrk', '-v')}",
            (
                "loopback, warm page cache, bodies proved byte-identical before measuring; "
                "zerocopy looks at the files for every request, nginx trusts its open_file_cache "
                "for 60 s"
            ),
        ),
    )


def cpu_model() -> str:
    """As /proc/cpuinfo calls it."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return models[0] if models else "unknown processor"


def tool_version(tool: str, flag: str) -> str:
    """The first words a tool says about itself."""
    if missing(tool) is not None:
        return f"no {tool}"
    line = output(tool, flag).partition("\n")[0]
    return " ".join(line.removeprefix("nginx version: ").split(" ")[:2])


def output(*command: str, accept: Container[int] = (0, 1)) -> str:
    """What a command wrote to either stream; nothing where it cannot be run or fails.

    wrk tells its version and exits with 1.
    """
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode in accept else ""


def progress(message: str) -> None:
    """Tell whoever waits; standard output is the report's."""
    print(f"bench: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

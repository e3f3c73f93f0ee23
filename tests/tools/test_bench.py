"""`python -m bench --smoke` still runs, with its peers and without them."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from array import array
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from bench.__main__ import QUESTIONS, chosen
from bench.bars import measure_billion
from bench.clients import (
    ClientError,
    TooShortError,
    _run,
    parse_h2load,
    parse_h2load_log,
    parse_wrk,
)
from bench.meter import Memory
from bench.percentiles import Latencies, percentiles
from bench.picture import svg
from bench.report import markdown
from bench.rounds import SMOKE_S, Options
from bench.section import Machine, Round, Section, Table
from bench.servers import Servers
from bench.workload import Workload, pick_range
from tests.server import ForkedServer

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOLS_MISSING = [tool for tool in ("nginx", "wrk", "h2load") if shutil.which(tool) is None]
PEERS = ["nginx", "stock Hypercorn", "uvicorn"]
MACHINE = Machine(
    date="2026-11-22 18:00 UTC", commit="abc1234", model="a processor", lines=("a machine",)
)

WRK_REPORT = """\
Running 3s test @ http://127.0.0.1:1/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   141.28us  175.61us   7.94ms   97.46%
    Req/Sec   121.63k     4.43k  128.31k    83.33%
  362838 requests in 3.00s, 1.49GB read
Requests/sec: 120937.51
Transfer/sec:    508.13MB
latencies: 116 1190 2400 us of 362838 requests, 1598000000 bytes in 3000000 us
"""

H2LOAD_REPORT = """\
starting benchmark...
spawning thread #0: 8 total client(s). Timing-based test with 0s of warm-up time and 1s of main \
duration for measurements.
TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h2
Main benchmark duration is over for thread #0. Stopping all clients.

finished in 300.10ms, 80500.00 req/s, 322.55MB/s
requests: 24150 total, 24230 started, 24150 done, 24150 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 24151 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 96.76MB (101465912) total, 2.97MB (3117375) headers (space savings 39.11%), 93.64MB \
(98187180) data
time for request:       24us      2.62ms       647us       138us    91.47%
"""


SMOKE = Options(rounds=1, seconds=SMOKE_S, smoke=True)


def only_servers(directory: Path) -> Servers:
    """What a question finds that starts its own."""
    return Servers(ExitStack(), str(directory), Workload("", {}))


def run_smoke(tmp_path: Path, path: str, *more: str) -> tuple[str, ET.Element]:
    """The report on standard output and the picture of a smoke run with that PATH."""
    picture = tmp_path / "bench.svg"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--smoke", "--svg", str(picture), *more],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, ET.fromstring(picture.read_text(encoding="utf-8"))


def sections_of(report: str) -> dict[str, str]:
    """Section title to text."""
    titles_and_texts = re.split(r"^## (.*)$", report, flags=re.MULTILINE)[1:]
    return dict(zip(titles_and_texts[::2], titles_and_texts[1::2], strict=True))


@pytest.mark.skipif(bool(TOOLS_MISSING), reason=f"not installed: {', '.join(TOOLS_MISSING)}")
@pytest.mark.timeout(240)
def test_smoke_with_peers_compares_all_servers_in_all_sections(tmp_path: Path) -> None:
    """Both paths on every server there is, then the questions that have tables of their own."""
    report, picture = run_smoke(tmp_path, os.environ["PATH"])
    sections = sections_of(report)
    *others, live, crowd, beside, files = [*sections][:-10]
    *others, bars, computing, arrow, levels, coded = others
    *rates, fairness, fairness_tls, slow, scaling, keyed, keyed_tls = others
    *clients, page, rows, stores, cold, cached, where = [*sections][-10:]
    assert [title.partition(" answers")[0] for title in rates] == [
        *("HTTP/1.1, 4 KB", "HTTP/1.1, 64 KB", "HTTP/1.1, 960 KB"),
        *("HTTP/2 over TLS, 4 KB", "HTTP/1.1 over TLS, 4 KB", "HTTP/2 over TLS, 960 KB"),
    ]
    for title in rates:
        text = sections[title]
        servers = re.findall(r"^\| (\w[\w ]*) \| \d", text, re.MULTILINE)
        assert servers == ["zerocopy", *PEERS]
        assert re.findall(r"^zerocopy / (.*): \*\*\d+\.\d\d\*\*", text, re.MULTILINE) == PEERS
    for title in (fairness, fairness_tls, slow, scaling):
        assert {"zerocopy", "nginx"} <= set(re.findall(r"zerocopy|nginx", sections[title]))
    for title in (fairness, fairness_tls):
        assert len(re.findall(r"^\| (?:0|4|40) \| ", sections[title], re.MULTILINE)) == 6
    assert "zerocopy, two workers / one: **" in sections[scaling]
    for title in (keyed, keyed_tls):
        told = re.findall(r"^\| (zerocopy[^|]*?) \| \d", sections[title], re.MULTILINE)
        assert told == ["zerocopy without keys", "zerocopy, a key in each head"]
    answered = re.findall(r"^\| 1 day[^|]*\| ([^|]*?) \|", sections[bars], re.MULTILINE)
    engines = ["polars", "duckdb", *["chdb"] * (find_spec("chdb") is not None)]
    assert answered == ["zerocopy, no roll-ups", "zerocopy, roll-ups", *engines]
    assert "All gave the same bars" in sections[bars]
    ways = re.findall(r"^\| (zerocopy, \w+|Arrow Flight) \|", sections[arrow], re.MULTILINE)
    assert ways == ["zerocopy, columns", "zerocopy, arrow", "Arrow Flight"]
    assert len(re.findall(r"^\| (?:zstd|gzip) -?\d+ \| ", sections[levels], re.MULTILINE)) == 12
    assert (
        len(re.findall(r"^\| (?:csv|json|columns|arrow) \| ", sections[coded], re.MULTILINE)) == 9
    )
    assert "All were the same once they were decoded" in sections[coded]
    assert where == "Where and when"
    has_redis = shutil.which("redis-server") is not None
    told = re.findall(r"^\| ([a-z-]+) \| ", sections[crowd], re.MULTILINE)
    assert told[2:] == ["zerocopy", *["redis-server"] * has_redis, "websockets"]
    assert len(re.findall(r"^\| zerocopy \| ", sections[live], re.MULTILINE)) == 4
    for title in clients:
        assert "All gave the same table" in sections[title]
        assert re.search(r"^\| zerocopy.client \| ", sections[title], re.MULTILINE)
    for title in (beside, computing):
        told = re.findall(r"^\| (alone|beside) \| ", sections[title], re.MULTILINE)
        assert told == ["alone", "beside"]
    ways = re.findall(r"^\| (?:CSV|Parquet) \| (\w+) \| ", sections[files], re.MULTILINE)
    assert ways == ["zerocopy", "pandas", "polars"] * 2
    assert "All wrote the same day files" in sections[files]
    assert page.startswith("The page: ")
    assert (rows, stores) == ("Rows recorded", "Stores verified")
    by = [
        re.findall(r"^\| (?:[^|]* \| )?([a-z][\w., ]*?) \| \d", sections[title], re.MULTILINE)
        for title in (rows, stores)
    ]
    assert by == [
        ["zerocopy", "struct.pack, file.writelines", "zerocopy", "ndarray.tofile"],
        ["zerocopy", "cat", "sha256sum"],
    ]
    ways = re.findall(r"^\| 20 of 0.02 MB \| ([^|]*) \|", sections[cold], re.MULTILINE)
    checked = ["plain download, MD5 checked", "zerocopy"]
    assert ways == ["plain download", "zerocopy, check_md5 = false", *checked]
    assert len(re.findall(r"^\| 4k \| over ", sections[cached], re.MULTILINE)) == 2
    skipped = ["chdb"] * (find_spec("chdb") is None) + ["redis-server"] * (not has_redis)
    assert re.findall("(\\S+) skipped", report.lower()) == skipped
    assert len(picture.findall("{*}rect")) == len(rates) * len(PEERS)


def test_smoke_without_tools_measures_the_rest_and_says_what_to_install(tmp_path: Path) -> None:
    """No tool on PATH: no failure, but the reason stands where the figures would."""
    report, _ = run_smoke(tmp_path, str(tmp_path), "--only", "plain-4k,plain-48m,tls-4k")
    small, large, tls_small, tls_small_http1, _ = sections_of(report).values()
    assert "Skipped: wrk is not on PATH: apt-get install wrk." in small
    assert "| zerocopy |" in large
    assert "| nginx |" not in large
    assert "nginx skipped: nginx is not on PATH: apt-get install nginx" in large
    assert "Skipped: h2load is not on PATH: apt-get install nghttp2-client." in tls_small
    assert "Skipped: wrk is not on PATH: apt-get install wrk." in tls_small_http1
    assert "zerocopy / nginx" not in report


def test_parse_wrk_reads_counts_and_latencies_in_one_unit() -> None:
    """They stand in the line that the script writes."""
    run = parse_wrk(WRK_REPORT)
    assert (run.answers, run.nbytes, run.seconds) == (362_838, 1_598_000_000, 3.0)
    assert run.latencies == Latencies(116, 1_190, 2_400)


@pytest.mark.parametrize(
    "line",
    ["  Non-2xx or 3xx responses: 7", "  Socket errors: connect 0, read 1, write 0, timeout 0"],
)
def test_parse_wrk_with_errors_raises(line: str) -> None:
    """A server that answers 500 quickly must not win."""
    with pytest.raises(ClientError, match=line.strip()):
        parse_wrk(WRK_REPORT + line + "\n")


@pytest.mark.parametrize(
    ("said", "is_short"), [("Stopped all clients for thread #0", True), ("no such host", False)]
)
def test_client_that_fails_as_its_time_ends_may_have_more_of_it(said: str, is_short: bool) -> None:  # noqa: FBT001
    """So h2load does where nothing was answered; what else fails is told as it is."""
    with pytest.raises(ClientError, match=said) as failure:
        _run(["sh", "-c", f"echo '{said}'; exit 3"])
    assert isinstance(failure.value, TooShortError) is is_short


def test_parse_wrk_of_something_else_raises() -> None:
    """A report without its figures is an error, not zeros."""
    with pytest.raises(ClientError, match="no report"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_parse_h2load_reads_counts_bytes_and_seconds() -> None:
    """Bytes are of bodies only; 80 requests on 8 connections were open at the end."""
    requests, nbytes, seconds = parse_h2load(H2LOAD_REPORT, in_flight_max=80)
    assert (requests, nbytes) == (24_150, 98_187_180)
    assert seconds == pytest.approx(0.3001)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0 failed", "1 failed"),
        ("0 errored", "1 errored"),
        ("0 timeout", "1 timeout"),
        ("24150 succeeded", "24149 succeeded"),
        ("24230 started", "24231 started"),
    ],
)
def test_parse_h2load_with_errors_or_lost_requests_raises(old: str, new: str) -> None:
    """A server that answers 500 or hangs up quickly must not win."""
    with pytest.raises(ClientError, match=new):
        parse_h2load(H2LOAD_REPORT.replace(old, new), in_flight_max=80)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Application protocol: h2", "Application protocol: http/1.1"),
        ("TLS Protocol: TLSv1.3", "TLS Protocol: TLSv1.2"),
        ("Cipher: TLS_AES_128_GCM_SHA256", "Cipher: TLS_AES_256_GCM_SHA384"),
    ],
)
def test_parse_h2load_of_another_protocol_raises(old: str, new: str) -> None:
    """All servers must have done the same work."""
    with pytest.raises(ClientError, match=f"no line '{old}'"):
        parse_h2load(H2LOAD_REPORT.replace(old, new), in_flight_max=80)


def test_parse_h2load_without_answers_raises() -> None:
    """h2load says nothing and exits with 0 where nobody listens."""
    report = re.sub(r"\d+ (total|started|done|succeeded),", r"0 \1,", H2LOAD_REPORT)
    with pytest.raises(ClientError, match="no request was answered"):
        parse_h2load(report, in_flight_max=80)
    with pytest.raises(ClientError, match="no report"):
        parse_h2load("no URI or input file given\n", in_flight_max=80)


def test_parse_h2load_log_tells_latencies() -> None:
    """The log is in the order of ends; 99 of 100 answers took 1 to 99 µs."""
    log = [f"{1_000_000 + 20_000 * index}\t200\t{index + 1}\n" for index in range(100)]
    assert percentiles(parse_h2load_log(log, 2.0)) == Latencies(51, 100, None)


def test_parse_h2load_log_that_stops_early_raises() -> None:
    """h2load waits in silence for a server that ended its connections."""
    with pytest.raises(ClientError, match=r"answers for 1\.00 s of 2\.00 s"):
        parse_h2load_log(["1000000\t200\t100000\n", "1900000\t200\t100000\n"], 2.0)
    with pytest.raises(ClientError, match="no answer"):
        parse_h2load_log([], 2.0)


@pytest.mark.parametrize(
    ("records", "expected"), [(1, (13, 13)), (4, (14, 14)), (5, (13, 14)), (100, (10, 14))]
)
def test_pick_range_takes_whole_seconds_nearest_to_the_count(
    records: int, expected: tuple[int, int]
) -> None:
    """Second 13 has one record, 14 has four; more than there are is the whole day."""
    times = array("I", [10] * 2 + [11] * 3 + [12] + [13] + [14] * 4)
    assert pick_range(times, records) == expected


def test_report_ratios_are_of_medians_of_rounds_and_of_processor_time() -> None:
    """Three ways to compare, none of them mistaken for another."""
    section = Section(path="A", label="<tiny>", unit="requests", client="a client")
    section.rounds["zerocopy"] = [make_round(rate) for rate in (100.0, 300.0, 200.0)]
    section.rounds["nginx"] = [make_round(rate) for rate in (100.0, 150.0, 50.0)]
    section.rounds["stock Hypercorn"] = [make_round(rate) for rate in (10.0, 20.0, 40.0)]
    assert section.peers == ["nginx", "stock Hypercorn"]
    assert section.ratio_of_medians("nginx") == 2.0
    assert section.ratios("nginx") == [1.0, 2.0, 4.0]
    assert section.ratio_by_cpu("nginx") == pytest.approx(2.0)
    assert section.ratio_of_medians("stock Hypercorn") == 10.0
    assert section.ratios("stock Hypercorn") == [10.0, 15.0, 5.0]
    page = markdown(MACHINE, [section])
    assert "**2.00** (ratio of medians), 2.00 (median over 3 rounds; range 1.00 to 4.00)" in page
    assert "zerocopy / stock Hypercorn: **10.00** (ratio of medians)" in page
    assert "| zerocopy | 200 (100 to 300) | 5000.00 | 100% | - | - | - | 20 | 30 | - |" in page
    assert "| A, <tiny> | 200 /s | 2.00 | 10.00 |" in page
    picture = ET.fromstring(svg(MACHINE, [section]))
    near, far = (float(bar.get("width", "")) for bar in picture.findall("{*}rect"))
    assert far / near == pytest.approx(math.log(10) / math.log(2), rel=0.01)
    description = picture.findtext("{*}desc")
    assert description is not None
    assert (
        "A, <tiny>: zerocopy 200 requests/s, 2.00 times nginx, 10.00 times stock Hypercorn."
    ) in description


def test_percentiles_are_told_only_where_an_answer_was_slower() -> None:
    """The 99th wants 100 answers and the 99.9th 1,000; without an answer there is none."""
    assert percentiles([]) == Latencies()
    assert percentiles([float(value) for value in range(99)]) == Latencies(49)
    assert percentiles([float(value) for value in range(1_000)]) == Latencies(500, 990, 999)


def test_report_of_a_table_tells_rows_verdicts_and_what_was_skipped() -> None:
    """A question that is no rate has a table of its own and no part in the picture."""
    table = Table(title="Fair", client="a client", head=("server", "p99"), skipped="no wrk")
    table.rows.append(("zerocopy", "12"))
    table.verdicts.append("zerocopy / nginx: **0.50**.")
    page = markdown(MACHINE, [table])
    assert "| server | p99 |\n| --- | --- |\n| zerocopy | 12 |" in page
    assert "zerocopy / nginx: **0.50**." in page
    assert "Skipped: no wrk." in page
    assert ET.fromstring(svg(MACHINE, [table])).findall("{*}rect") == []


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("scaling,plain-4k", ["plain-4k", "scaling"]),
        ("tls", ["tls-4k", "tls-64k", "tls-1m", "tls-48m"]),
        ("billion", ["billion"]),
        ("plain-5k", None),
    ],
)
def test_only_takes_names_and_groups(only: str, expected: list[str] | None) -> None:
    """In the order of the report, and no name that means nothing."""
    assert chosen(only) == expected


def test_all_but_the_billion_are_asked_without_only() -> None:
    """It takes a disk and minutes."""
    assert chosen(None) == [name for name in QUESTIONS if name != "billion"]


def test_billion_is_measured_over_few_ticks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All ways give the same bars, and the new ones once a record has changed."""
    monkeypatch.setattr("bench.bars.RunningServer", ForkedServer)
    only = {"duckdb": None}
    monkeypatch.setattr("bench.bars.missing", lambda name: only.get(name, "not asked"))
    [table] = measure_billion(SMOKE, only_servers(tmp_path))
    assert [row[:2] for row in table.rows] == [
        ("3 days, 0.12 M ticks, to 24 bars", name)
        for name in ("zerocopy, no roll-ups", "zerocopy, roll-ups", "duckdb")
    ]
    assert table.rows[-1][-2:] == ("as first", "as first")
    assert not any("as first" in row for row in table.rows[:-1])
    assert "All gave the same bars" in table.verdicts[0]


def test_billion_is_skipped_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It says how much is needed, and how to take another disk; nothing is written."""
    usage = shutil.disk_usage(tmp_path)._replace(free=7_900_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    [table] = measure_billion(replace(SMOKE, smoke=False), only_servers(tmp_path))
    assert table.skipped is not None
    assert "GB, and 7.9 GB are free; TMPDIR names" in table.skipped
    assert os.listdir(tmp_path) == []


def make_round(rate: float) -> Round:
    """One second at `rate`, its core fully used."""
    memory = Memory(resident=20_000_000, peak=30_000_000)
    return Round(units=rate, seconds=1.0, cpu_s=1.0, others_share=0.02, memory=memory)

"""`python -m bench --smoke` still runs, with its peers and without them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from array import array
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from bench.clients import ClientError, parse_wrk
from bench.report import Machine, Round, Section, markdown, svg
from bench.workload import pick_range

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOLS_MISSING = [tool for tool in ("nginx", "wrk") if shutil.which(tool) is None]
MACHINE = Machine(date="2026-11-22 18:00 UTC", commit="abc1234", lines=("a machine",))

WRK_REPORT = """\
Running 3s test @ http://127.0.0.1:1/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   141.28us  175.61us   7.94ms   97.46%
    Req/Sec   121.63k     4.43k  128.31k    83.33%
  Latency Distribution
     50%  116.00us
     75%  131.00us
     90%  160.00us
     99%    1.19ms
  362838 requests in 3.00s, 1.49GB read
Requests/sec: 120937.51
Transfer/sec:    508.13MB
"""


def run_smoke(tmp_path: Path, path: str) -> tuple[str, ET.Element]:
    """The report on standard output and the picture of a smoke run with that PATH."""
    picture = tmp_path / "bench.svg"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--smoke", "--svg", str(picture)],
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
def test_smoke_with_peers_compares_both_servers_in_both_sections(tmp_path: Path) -> None:
    """Small and large answers are measured on both servers, and the ratio is told."""
    report, picture = run_smoke(tmp_path, os.environ["PATH"])
    small, large, where = sections_of(report).items()
    assert re.fullmatch(r"A\. 4,0\d\d-byte answers, 16 connections", small[0])
    assert large[0].startswith("B. ")
    assert where[0] == "Where and when"
    for _, text in (small, large):
        assert "| zerocopy |" in text
        assert "| nginx |" in text
        assert re.search(r"zerocopy / nginx: \*\*\d+\.\d\d\*\*", text)
        assert "skipped" not in text.lower()
    assert len(picture.findall("{*}rect")) == 4


def test_smoke_without_peers_measures_zerocopy_alone_and_says_what_to_install(
    tmp_path: Path,
) -> None:
    """Neither tool on PATH: no failure, but the reason stands where the figures would."""
    report, picture = run_smoke(tmp_path, str(tmp_path))
    small, large, _ = sections_of(report).values()
    assert "Skipped: wrk is not on PATH: apt-get install wrk." in small
    assert "| zerocopy |" in large
    assert "| nginx |" not in large
    assert "nginx skipped: nginx is not on PATH: apt-get install nginx" in large
    assert "zerocopy / nginx" not in report
    assert len(picture.findall("{*}rect")) == 1


def test_parse_wrk_reads_counts_and_latencies_in_one_unit() -> None:
    """Microseconds, milliseconds and seconds all become what the name says."""
    run = parse_wrk(WRK_REPORT)
    assert (run.requests, run.seconds) == (362_838, 3.0)
    assert (run.p50_us, run.p99_us) == (116.0, 1_190.0)


@pytest.mark.parametrize(
    "line",
    ["  Non-2xx or 3xx responses: 7", "  Socket errors: connect 0, read 1, write 0, timeout 0"],
)
def test_parse_wrk_with_errors_raises(line: str) -> None:
    """A server that answers 500 quickly must not win."""
    with pytest.raises(ClientError, match=line.strip()):
        parse_wrk(WRK_REPORT + line + "\n")


def test_parse_wrk_of_something_else_raises() -> None:
    """A report without its figures is an error, not zeros."""
    with pytest.raises(ClientError, match="no report"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


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
    section = Section(title="A. <tiny>", unit="requests", client="a client")
    section.rounds["zerocopy"] = [make_round(rate) for rate in (100.0, 300.0, 200.0)]
    section.rounds["nginx"] = [make_round(rate) for rate in (100.0, 150.0, 50.0)]
    assert section.ratio_of_medians == 2.0
    assert section.ratios == [1.0, 2.0, 4.0]
    assert section.ratio_by_cpu == pytest.approx(2.0)
    page = markdown(MACHINE, [section])
    assert "**2.00** (ratio of medians), 2.00 (median over 3 rounds; range 1.00 to 4.00)" in page
    assert "| zerocopy | 200 (100 to 300) | 5000.00 | 100% | 2% | - | - |" in page
    picture = ET.fromstring(svg(MACHINE, [section]))
    assert [bar.get("width") for bar in picture.findall("{*}rect")] == ["380", "190"]
    description = picture.findtext("{*}desc")
    assert description is not None
    assert "A. <tiny>: zerocopy 200 requests/s, 2.00 times nginx; nginx 100" in description


def make_round(rate: float) -> Round:
    """One second at `rate`, its core fully used."""
    return Round(units=rate, seconds=1.0, cpu_s=1.0, others_share=0.02)

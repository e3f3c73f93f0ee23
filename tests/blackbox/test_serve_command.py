"""The command line of the processes: `serve` that cannot, wrong usage, commands that only tell."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.command_line import in_text, run_forked
from tests.faults.client import (
    SMALL_RECORDS,
    body_of,
    make_root,
)
from zerocopy.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("lifecycle")
    make_root(path)
    yield path
    shutil.rmtree(path)


def run_command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `zerocopy` to its end."""
    clean = {"PATH": os.environ["PATH"], "ZEROCOPY_CONFIG": os.devnull, "USE_TLS": "false"}
    env = clean | {"PORT": "0", "METRICS_PORT": "0", "COLUMNS": "200"} | environ
    return in_text(run_forked(arguments, env))


def assert_one_line(text: str, *words: str) -> None:
    """Standard error is one line for a person, and has the words."""
    assert text.count("\n") == 1, text
    assert text.startswith("zerocopy: ")
    assert all(word in text for word in words), text


@pytest.mark.parametrize("variable", ["PORT", "METRICS_PORT"])
def test_serve_on_a_port_in_use_fails_with_one_line(root: Path, variable: str) -> None:
    """Both listeners say which address is taken, and the exit code is 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_command("serve", DATA_PATH=str(root), **{variable: port})
    assert done.returncode == 1
    assert_one_line(done.stderr, f"127.0.0.1:{port}", "in use")


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        pytest.param(
            ["serve"],
            {"USE_TLS": "true", "SSL_CERT_PATH": "/nowhere.crt"},
            ["cert_path", "/nowhere.crt", "zerocopy certs"],
            id="no certificate",
        ),
        pytest.param(["serve"], {"PORT": "many"}, ["PORT", "many"], id="wrong type"),
        pytest.param(["serve"], {"ZEROCOPY_LIMITS_DAY_MAX": "1"}, ["DAYS_MAX"], id="unknown key"),
        pytest.param(["serve", "-c", "/nowhere.toml"], {}, ["/nowhere.toml"], id="no file"),
        pytest.param(["serve"], {"HOST": "203.0.113.1"}, ["203.0.113.1"], id="no such address"),
        pytest.param(
            ["check-config"], {"ZEROCOPY_TIMEOUTS_IDLE_S": "-1"}, ["IDLE_S"], id="check-config"
        ),
        pytest.param(
            ["query", "NONE", "MD", "0", "1", "time"], {}, ["symbol"], id="unknown symbol"
        ),
        pytest.param(
            ["query", "BTC-USD", "MD", "9", "1", "time"], {}, ["start", "end"], id="start > end"
        ),
    ],
)
def test_command_that_fails_says_why_in_one_line(
    root: Path, arguments: list[str], environ: dict[str, str], words: list[str]
) -> None:
    """What an operator did wrong is one line that names it, with exit code 1."""
    done = run_command(*arguments, **({"DATA_PATH": str(root)} | environ))
    assert done.returncode == 1
    assert_one_line(done.stderr, *words)


@pytest.mark.parametrize("arguments", [["sevre"], ["serve", "--prot", "1"], ["query", "BTC-USD"]])
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str]) -> None:
    """An unknown command, an unknown option and a missing argument are errors of usage."""
    done = run_command(*arguments)
    assert done.returncode == 2
    assert_one_line(done.stderr)


def test_commands_that_only_tell_exit_with_0(root: Path) -> None:
    """`--version`, `check-config` and `symbols` print what they are asked for."""
    environ = {"DATA_PATH": str(root), "USE_TLS": "false"}
    assert re.fullmatch(r"zerocopy \d\S*\n", run_command("--version").stdout)
    checked = run_command("check-config", **environ)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "limits.columns_max" in checked.stdout
    assert str(root) in checked.stdout
    assert "BTC-USD" in run_command("symbols", **environ).stdout
    listed = json.loads(run_command("symbols", "--json", **environ).stdout)
    assert listed["symbols"] == ["BTC-USD"]


def test_query_plans_and_writes_the_body_of_the_http_answer(root: Path, tmp_path: Path) -> None:
    """The plan tells records and bytes; --output writes byte for byte what the server sends."""
    arguments = ("query", "BTC-USD", "SMALL", "0", "86399", "time,price", "-d", str(root))
    expected = body_of(root, "SMALL")
    plan = run_command(*arguments)
    assert plan.returncode == 0
    assert f'"num_records":{SMALL_RECORDS}' in plan.stdout
    assert f"{len(expected):,} bytes" in plan.stdout
    done = run_command(*arguments, "--output", str(tmp_path / "body"))
    assert done.returncode == 0
    assert (tmp_path / "body").read_bytes() == expected


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, with a root and certificates of its own."""
    places = ["--root", str(tmp_path / "data"), "--certs", str(tmp_path / "certs")]
    with subprocess.Popen(
        [sys.executable, "-m", "zerocopy", "demo", *places, "--port", "0", "--tls-port", "0"],
        env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_demo_serves_the_urls_it_prints_and_data_that_grow(
    tmp_path: Path, demo: subprocess.Popen[str]
) -> None:
    """`demo` makes its data, prints the page's URL and those of both paths, ends by Ctrl-C."""
    assert demo.stdout is not None
    urls, python = [], ""
    for line in demo.stdout:
        urls += re.findall(r"^ +(https?://\S+)$", line)
        python += "".join(re.findall(r"^ +((?:from|Client).*\n)", line))
        if "Ctrl-C" in line:
            break
    trusting = ssl.create_default_context(cafile=str(tmp_path / "certs/ca.crt"))
    page, *urls = urls
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", page)
    for url in urls:
        context = trusting if url.startswith("https:") else None
        with urllib.request.urlopen(url, timeout=10, context=context) as response:
            content = response.read()
            assert response.status == 200
            first = content.partition(b"\n")[0]
            assert first == b"time,price,volume" if "format=csv" in url else json.loads(first)
    assert {url.partition(":")[0] for url in urls if "/api/data?" in url} == {"http", "https"}
    [bars] = [url for url in urls if "/api/bars?" in url]
    with urllib.request.urlopen(bars, timeout=10) as response:
        columns = json.loads(response.read())["columns"]
    assert list(columns) == [
        "time",
        *(f"price.{word}" for word in ("open", "high", "low", "close")),
    ]
    assert len(columns["time"]) > 24 * 14
    imported, frame = python.splitlines()
    assert imported == "from zerocopy.client import Client"
    with Client(page) as client:  # a script of two lines need not close it
        assert len(eval(frame, {"Client": lambda _url: client})) == 200_000
    live = f"{page}api/live?symbol=BTC-USD&type=MD&columns=time,price"
    with urllib.request.urlopen(live, timeout=30) as response:
        assert any(line == b"event: records\n" for line in response)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(10) == 0

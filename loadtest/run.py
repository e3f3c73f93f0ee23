"""`make load`: sample data, a server of its own on free ports, locust on both paths, a report.

Owns what a run on one machine needs around locust; LOAD_USERS, LOAD_SPAWN_RATE and LOAD_RUN_TIME
set its size, LOAD_SHAPE and the other options of locustfile.py what it does, and LOAD_RELOAD_S
sends the server a SIGHUP every so many seconds, under which nothing may fail either. The exit code
is 1 where an answer was wrong, or the server did not stop as it should or logged an error.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

ROOT = "var/load"
CERTS = "var/load-certs"
REPORT = "var/load.html"
LOG = "var/load-server.log"
DAYS = 8
RECORDS = 100_000
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 60


def main() -> int:
    """Run the load; the exit code."""
    binary = os.path.dirname(sys.executable)
    if not os.path.isdir(ROOT):
        generate(binary)
    subprocess.run(
        [f"{binary}/zerocopy", "certs", "--directory", CERTS, "--force"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    environ = {
        "USE_TLS": "false",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "ZEROCOPY_TLS_PORT": "0",
        "ZEROCOPY_DATA_SETTLE_S": "0",  # the past days were made just now
        "METRICS_PORT": "0",
        "ZEROCOPY_LOG_FORMAT": "json",
        "SSL_CERT_PATH": f"{CERTS}/localhost.crt",
        "SSL_PRIVATE_FILE": f"{CERTS}/localhost.key",
    }
    with open(LOG, "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [f"{binary}/zerocopy", "serve", "--data-path", ROOT],
            env={**os.environ, **environ},
            stderr=log,
        )
    try:
        ready = wait_until_ready(server)
        if ready is None:
            print(f"the server did not start: {LOG}")
            return 1
        status = run_locust(binary, ready, server)
    finally:
        server.terminate()
        try:
            stopped = server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            stopped = server.wait()
    errors = [line for line in read_log() if line.get("level") == "error"]
    print(f"server: exit code {stopped}, {len(errors)} errors in {LOG}; report in {REPORT}")
    return 1 if status or stopped or errors else 0


def generate(binary: str) -> None:
    """Make the sample data; an interrupted run leaves nothing that looks complete."""
    first_day = dt.datetime.now(dt.UTC).date() - dt.timedelta(DAYS - 1)
    sizes = ["--exchanges=2", "--symbols=3", f"--days={DAYS}", f"--records={RECORDS}"]
    partial = f"{ROOT}.partial"
    subprocess.run(
        [
            *(f"{binary}/zerocopy", "generate", partial, "--overwrite", "--odd-symbols"),
            *(*sizes, f"--first-day={first_day}"),
        ],
        check=True,
    )
    os.rename(partial, ROOT)


def run_locust(binary: str, ready: dict[str, Any], server: subprocess.Popen[bytes]) -> int:
    """Ask on both paths, with reloads meanwhile if they are asked for; locust's exit code."""
    reload_s = float(os.environ.get("LOAD_RELOAD_S", "0"))
    locust = subprocess.Popen(
        [
            *(f"{binary}/locust", "--locustfile=loadtest/locustfile.py"),
            *("--headless", "--only-summary", f"--html={REPORT}"),
            f"--users={os.environ.get('LOAD_USERS', '20')}",
            f"--spawn-rate={os.environ.get('LOAD_SPAWN_RATE', '10')}",
            f"--run-time={os.environ.get('LOAD_RUN_TIME', '60s')}",
            f"--plain-url=http://{ready['address']}",
            f"--tls-url=https://{ready['tls']}",
            *(f"--ca={CERTS}/ca.crt", f"--data-root={ROOT}"),
        ],
    )
    while reload_s:
        try:
            return locust.wait(reload_s)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGHUP)
    return locust.wait()


def wait_until_ready(server: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """The event that tells the addresses; None if there is none."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline_s:
        for line in read_log():
            if line.get("event") == "ready":
                return line
        time.sleep(0.05)
    return None


def read_log() -> list[dict[str, Any]]:
    """What the server has logged so far."""
    with open(LOG, encoding="utf-8") as log:
        return [json.loads(line) for line in log if line.startswith("{") and line.endswith("\n")]


if __name__ == "__main__":
    sys.exit(main())

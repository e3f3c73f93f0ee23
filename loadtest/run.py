"""`make load`: sample data, a server of its own on a free port, locust against it, a report.

LOAD_USERS, LOAD_SPAWN_RATE and LOAD_RUN_TIME set the size; the defaults are a minute on a laptop.
The exit code is locust's: 1 if any answer was not as the contract says.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys

ROOT = "var/load"
REPORT = "var/load.html"
DAYS = 8
RECORDS = 200_000


def main() -> int:
    """Run the load; the exit code."""
    binary = os.path.dirname(sys.executable)
    if not os.path.isdir(ROOT):
        first_day = dt.datetime.now(dt.UTC).date() - dt.timedelta(DAYS - 1)
        sizes = ["--exchanges=2", "--symbols=4", f"--days={DAYS}", f"--records={RECORDS}"]
        subprocess.run(
            [f"{binary}/zerocopy", "generate", ROOT, *sizes, f"--first-day={first_day}"],
            check=True,
        )
    environ = {"USE_TLS": "false", "HOST": "127.0.0.1", "PORT": "0", "METRICS_PORT": "0"}
    server = subprocess.Popen(
        [f"{binary}/zerocopy", "serve", "--data-path", ROOT],
        env={**os.environ, **environ, "ZEROCOPY_LOG_FORMAT": "json"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        ready = re.search(r'"address": "([^"]+)"', server.stderr.readline())
        if ready is None:
            print("the server did not start")
            return 1
        return subprocess.run(
            [
                f"{binary}/locust",
                "--locustfile=loadtest/locustfile.py",
                "--headless",
                "--only-summary",
                f"--users={os.environ.get('LOAD_USERS', '20')}",
                f"--spawn-rate={os.environ.get('LOAD_SPAWN_RATE', '10')}",
                f"--run-time={os.environ.get('LOAD_RUN_TIME', '60s')}",
                f"--html={REPORT}",
                f"--host=http://{ready[1]}",
            ],
            check=False,
        ).returncode
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    sys.exit(main())

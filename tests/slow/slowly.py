"""slowhttptest in its four modes, again and again for as long as a block runs."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import Counter
from typing import Self

CONNECTIONS = 300
RUN_S = 10
COMMON = ("-c", str(CONNECTIONS), "-r", "200", "-l", str(RUN_S), "-p", "3")

MODES = {
    "slow headers": ("-H", "-i", "1", "-x", "24"),
    "slow body": ("-B", "-i", "1", "-s", "60000", "-x", "24"),
    "range attack": ("-R", "-a", "5", "-b", "1200"),
    "slow read": ("-X", "-w", "16", "-y", "32", "-n", "1", "-z", "4", "-k", "3"),
}
"""By what they are called; `-i` and `-n` are seconds between two drops."""

_NUMBERS = re.compile(r"(pending|connected|error|closed|service available):\s+(\S+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Slowhttptest:
    """The tool against one URL; `seen` counts what it reported at the end of its runs."""

    def __init__(self, mode: str, url: str) -> None:
        self._command = ["slowhttptest", *MODES[mode], *COMMON, "-u", url]
        self._process: subprocess.Popen[str] | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Start, and give it the second that its connections take to be made."""
        self._thread.start()
        self._done.wait(1.5)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._done.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join()

    def text(self) -> str:
        """One line for people."""
        return ", ".join(f"{name}: {count}" for name, count in sorted(self.seen.items()))

    def _run(self) -> None:
        while not self._done.is_set():
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            try:
                output, _ = self._process.communicate(timeout=2 * RUN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                output, _ = self._process.communicate()
            self._read(_COLOURS.sub("", output))
            self._done.wait(0.1)

    def _read(self, output: str) -> None:
        self.seen["runs"] += 1
        if last := output.rpartition("slow HTTP test status")[2]:
            for name, value in _NUMBERS.findall(last):
                if value.isdigit():
                    self.seen[f"last {name}"] += int(value)
                else:
                    self.seen[f"{name} {value}"] += 1
        if ended := re.search(r"Exit status:\s*(.+)", output):
            self.seen[f"'{ended[1].strip()}'"] += 1

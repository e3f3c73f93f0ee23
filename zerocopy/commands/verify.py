"""`zerocopy verify`: is this data root sound? And, with `--repair`, mend it.

Owns the flags, the table, the lines of JSON, the progress bar and the exit code.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from zerocopy.commands.shared import (
    ConfigOption,
    counting,
    local_root,
    print_table,
    read_config,
    terminal,
)
from zerocopy.core.errors import ConfigError, IngestError
from zerocopy.streams import tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.ingest.verifying.day import Place
    from zerocopy.ingest.verifying.finding import Finding
    from zerocopy.ingest.verifying.repair import Step
    from zerocopy.ingest.verifying.verify import Verifier

BYTES_PER_MB = 1_000_000


def verify(
    root: Annotated[
        str | None, typer.Argument(metavar="DIR", help="Data root; else data.path.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each finding.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended without loss.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --repair: say what would be done; do nothing.")
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="PROBLEM", help="Leave out findings of this kind; may be repeated."),
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Check every file of a store: names, lengths, order of times, days, gaps, NaN, permissions.

    Exit code 1 when something is wrong. --repair mends rests of records, order, and records in
    another day's file, each by write, fsync and rename; .repair.log below DIR has what it did.
    """
    from zerocopy.core.layout import Dtypes
    from zerocopy.ingest.verifying.day import Place
    from zerocopy.ingest.verifying.finding import PROBLEMS
    from zerocopy.ingest.verifying.verify import Verifier

    unknown = [word for word in ignore or () if word not in PROBLEMS]
    if unknown:
        raise typer.BadParameter(f"--ignore {unknown[0]}: expected one of {', '.join(PROBLEMS)}")
    if dry_run and not repair:
        raise typer.BadParameter("--dry-run goes with --repair")
    loaded = read_config(config)
    place = Place(root or local_root(loaded), Dtypes(loaded.columns), time.time())
    run = _Run(place, frozenset(ignore or ()), is_json=as_json)
    with run.progress, Verifier(place, run.on_bytes) as verifier:
        run.look(verifier, "mend" if repair and not dry_run else "plan" if repair else "")
    return run.end()


class _Run:
    """One run over a store: what was found, what was done."""

    def __init__(self, place: Place, ignored: frozenset[str], *, is_json: bool) -> None:
        from rich.console import Console

        self._place = place
        self._ignored = ignored
        self._is_json = is_json
        self._shown: list[tuple[Finding, str]] = []
        self._steps: list[Step] = []
        self._wrong = 0
        self._failed = False
        self._bytes = self._series = 0
        self._console = terminal()
        self.progress = counting("series", Console(stderr=True), is_left=False)
        self._bar = self.progress.add_task("looking", total=None)

    def look(self, verifier: Verifier, way: str) -> None:
        """Look at every series; `way` is what to do about it: mend, plan or nothing."""
        try:
            series, findings = verifier.names()
        except OSError as error:
            raise ConfigError(f"{self._place.root}: cannot be read: {error.strerror}") from error
        self.progress.update(self._bar, total=len(series))
        self._note(findings)
        for names in series:
            found = [*verifier.series(names)]
            if way and any(each.mends for each in found):
                found = self._repair(verifier, names, found, is_dry=way == "plan")
            else:
                self._note(found)
            self._series += 1
            self.progress.advance(self._bar)

    def on_bytes(self, count: int) -> None:
        """A day is done."""
        self._bytes += count
        self.progress.update(
            self._bar, description=f"looked at {self._bytes / BYTES_PER_MB:,.0f} MB"
        )

    def end(self) -> int:
        """Tell the rest; the exit code."""
        if not self._is_json:
            self._print_table()
        return 1 if self._wrong or self._failed else 0

    def _repair(
        self,
        verifier: Verifier,
        names: tuple[str, str, str],
        found: list[Finding],
        *,
        is_dry: bool,
    ) -> list[Finding]:
        from zerocopy.ingest.verifying.repair import LogFile, Repair

        log = None if is_dry else LogFile(self._place.root)

        def done(step: Step) -> None:
            self._steps.append(step)
            if log is not None:
                log.write(step)

        try:
            Repair(self._place, names, done, is_dry=is_dry).run()
        except IngestError as error:
            tell(f"zerocopy: {error.detail}")
            self._failed = True
        if is_dry:
            self._note(found)
            return found
        left = [*verifier.series(names)]
        keys = {each.key for each in left}
        self._note((each for each in found if each.key not in keys), mended=True)
        self._note(left)
        return left

    def _note(self, findings: Iterable[Finding], *, mended: bool = False) -> None:
        """Print findings in JSON, or keep them for the table."""
        for each in findings:
            if each.problem in self._ignored:
                continue
            self._wrong += not mended
            if self._is_json:
                self._write(each, mended=mended)
            else:
                state = "; mended" if mended else "; --repair mends it" if each.mends else ""
                self._shown.append((each, state))

    def _write(self, finding: Finding, *, mended: bool) -> None:
        import json

        # Not orjson: a name need not be UTF-8, and its bytes are escaped here.
        line = finding.as_json() | ({"mended": True} if mended else {})
        sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
        sys.stdout.flush()

    def _print_table(self) -> None:
        console = self._console
        if self._shown:
            rows = (
                (_printable(each.path), each.problem, _printable(each.detail) + state)
                for each, state in self._shown
            )
            print_table(console, ("file", "problem", "what is wrong"), rows)
            console.print()
        for step in self._steps:
            told = ", ".join(f"{k} {v}" for k, v in step.facts.items() if k != "hex")
            line = f"{os.path.join(step.series, step.day)}: {step.done}" + (
                f" ({told})" if told else ""
            )
            console.print(line, markup=False, highlight=False)
        many = "finding" if self._wrong == 1 else "findings"
        wrong = f"{self._wrong:,} {many}" if self._wrong else "sound"
        console.print(
            f"{self._place.root}: {self._series:,} series, "
            f"{self._bytes / BYTES_PER_MB:,.0f} MB: {wrong}",
            markup=False,
            highlight=False,
        )


def _printable(text: str) -> str:
    """A name may hold what drives a terminal, or bytes that are no text: these are escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")

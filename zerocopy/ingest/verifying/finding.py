"""What is wrong with a file, a day or a series: one finding, and the words for all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

PROBLEMS = {
    "case": "names that differ in upper and lower case alone",
    "future": "records of the future",
    "gap": "calendar days without a file",
    "leftover": "rests of a run that was killed",
    "link": "symbolic links, which are not followed",
    "missing-column": "days that lack a column of others, and are skipped by queries of it",
    "missing-time": "days without times, which every query skips",
    "nan": "columns with NaN",
    "outside": "records in another day's file, which queries of their own day do not find",
    "permissions": "files that not all may read, or anybody may write",
    "torn": "files that end amid a record",
    "uneven": "columns of a day with different numbers of records",
    "unreachable": "names that no query can reach",
    "unreadable": "what cannot be read",
    "unsorted": "times that do not ascend",
    "width": "columns whose records seem to have another dtype than the configuration says",
}
"""Every problem by its word in `--json`."""


class Finding(NamedTuple):
    """One thing that is wrong.

    `path` is relative to the root. `facts` are what `--json` adds: `day`, `column`, numbers.
    `mends` tells whether `--repair` can put it right without loss.
    """

    path: str
    problem: str
    detail: str
    facts: dict[str, Any]
    mends: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same finding in a later run."""
        return self.path, self.problem, str(self.facts.get("column", ""))

    def as_json(self) -> dict[str, Any]:
        """A line of `--json`."""
        return {
            "path": self.path,
            "problem": self.problem,
            "detail": self.detail,
            **self.facts,
            "repairable": self.mends,
        }


def found(path: str, problem: str, detail: str, *, mends: bool = False, **facts: Any) -> Finding:
    """A finding, whose word is one of `PROBLEMS`."""
    assert problem in PROBLEMS, "a word that is documented"
    return Finding(path, problem, detail, facts, mends)

"""What a check found: one line for people and machines, and the words all checks share.

Owns the verdicts and their order. It must never know what was checked.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """What a finding asks of the operator, the most urgent first."""

    CHANGE = "change"
    """The configuration needs something that is missing: exit code 1."""
    ADVICE = "advice"
    """It works as it is; a change would make it faster or safer."""
    UNKNOWN = "unknown"
    """It could not be read, so nothing is said about it."""
    NOTE = "note"
    """Worth knowing; nothing to do."""
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result.

    `change` is the line to write, `gain` what it is good for, and `source` the manual page, the
    kernel's documentation or the section of docs/tuning.md that says so.
    """

    check: str
    verdict: Verdict
    found: str
    change: str = ""
    gain: str = ""
    source: str = ""


def ok(check: str, found: str) -> Finding:
    """A finding that asks for nothing."""
    return Finding(check, Verdict.OK, found)


def unknown(check: str, what: str) -> Finding:
    """A finding of a check that could not read what it is about."""
    return Finding(check, Verdict.UNKNOWN, f"{what} cannot be read")


def sysctl(name: str, value: object) -> str:
    """The command that sets a kernel parameter; docs/tuning.md says how to keep it."""
    text = str(value)
    return f"sysctl -w {name}='{text}'" if " " in text else f"sysctl -w {name}={text}"


def size(nbytes: int) -> str:
    """Bytes for people, in the largest unit that leaves at least 1."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if nbytes >= 1 << shift:
            return f"{nbytes / (1 << shift):,.4g} {unit}"
    return f"{nbytes} bytes"

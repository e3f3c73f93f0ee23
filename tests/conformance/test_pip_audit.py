"""pip-audit looks the pins of constraints.txt up in the advisories that are known today."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CONSTRAINTS = os.path.join(os.path.dirname(__file__), "..", "..", "constraints.txt")
VULNERABLE = "jinja2==2.4.1"
"""Has had advisories for many years: a service that does not name it knows nothing."""
SERVICES = ("pypi", "osv")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def audit(requirements: Path | str, service: str) -> list[dict[str, Any]] | None:
    """What a service knows of each pin, and None where it cannot be asked.

    pip-audit calls it a success when a service knows none of the packages; here that is a failure.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--requirement", str(requirements)),
            *("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"),
            *("--vulnerability-service", service, "--timeout", "10"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if not done.stdout.startswith("{"):
        return None
    found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    return None if all("skip_reason" in package for package in found) else found


def test_no_pin_has_a_known_vulnerability(tmp_path: Path) -> None:
    """Every package that make install installs, judged by a service that knows a bad one."""
    control = tmp_path / "control.txt"
    control.write_text(VULNERABLE + "\n", encoding="utf-8")
    for service in SERVICES:
        known = audit(control, service)
        if known is not None:
            break
    else:
        pytest.skip("no advisory service can be reached: neither of them answers")
    assert known[0]["vulns"], f"{service} knows nothing of {VULNERABLE}"
    found = audit(CONSTRAINTS, service)
    assert found is not None
    assert [package for package in found if "skip_reason" in package] == []
    vulnerable = {
        package["name"]: [vulnerability["id"] for vulnerability in package["vulns"]]
        for package in found
        if package["vulns"]
    }
    assert vulnerable == {}

"""`zerocopy check-config`: what it prints, and when it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.blackbox.test_serve_command import assert_one_line, run_command

if TYPE_CHECKING:
    from pathlib import Path


def test_check_config_is_for_programs_too(tmp_path: Path) -> None:
    """`--json` has every option with its value and origin; a pipe gets whole values, no table."""
    environ = {"DATA_PATH": str(tmp_path), "USE_TLS": "false"}
    options = json.loads(run_command("check-config", "--json", **environ).stdout)
    assert options["data.path"] == {"value": str(tmp_path), "from": "DATA_PATH"}
    assert options["limits.columns_max"] == {"value": 32, "from": "default"}
    lines = run_command("check-config", **environ).stdout.splitlines()
    assert f"data.path\t{tmp_path}\tDATA_PATH" in lines


def test_check_config_tells_what_serve_would_miss(tmp_path: Path) -> None:
    """A certificate that is not there is an error; a data root is awaited, so it is only told."""
    lost = str(tmp_path / "lost.crt")
    done = run_command("check-config", USE_TLS="true", DATA_PATH=str(tmp_path), SSL_CERT_PATH=lost)
    assert done.returncode == 1
    assert_one_line(done.stderr)
    assert f"{lost} does not exist" in done.stderr
    done = run_command("check-config", DATA_PATH=str(tmp_path / "lost"), USE_TLS="false")
    assert done.returncode == 0
    assert "cannot be read: No such file or directory" in done.stderr
    issued = {"ZEROCOPY_AUTH_ISSUER": "a", "ZEROCOPY_AUTH_AUDIENCE": "b", "USE_TLS": "false"}
    for command in ("check-config", "serve"):
        done = run_command(command, ZEROCOPY_AUTH_JWKS="http://issuer.example/certs", **issued)
        assert done.returncode == 1
        assert_one_line(done.stderr)
        assert "[auth] jwks: the URL must begin with https://" in done.stderr

"""`zerocopy certs`: what it says, and how it fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from tests.command_line import environment, in_text, run_forked

if TYPE_CHECKING:
    import subprocess

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ["ca.crt", "ca.key", "localhost.crt", "localhost.key"]


def zerocopy(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a directory."""
    return in_text(run_forked(arguments, environment(COLUMNS="80"), folder=cwd))


def test_command_makes_certificates_and_says_how_to_trust_them(tmp_path: Path) -> None:
    """Exit code 0, paths first; again without --force is 1 and one line, a wrong option is 2."""
    done = zerocopy("certs", "--name", "dev.example", "--name", "10.0.0.1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:4] == [f"certs/{name}" for name in FILES]
    assert any("curl --cacert certs/ca.crt https://localhost" in line for line in lines)
    assert any("update-ca-certificates" in line for line in lines)
    ca, leaf = (
        x509.load_pem_x509_certificate((tmp_path / "certs" / name).read_bytes())
        for name in ("ca.crt", "localhost.crt")
    )
    leaf.verify_directly_issued_by(ca)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "dev.example", "10.0.0.1"} <= {str(name.value) for name in names}
    again = zerocopy("certs", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == "zerocopy: certs/localhost.crt exists; --force replaces it\n"
    assert zerocopy("certs", "--force", cwd=tmp_path).returncode == 0
    wrong = zerocopy("certs", "--lifetime", "1", cwd=tmp_path)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)


def test_command_fails_in_one_line_where_no_directory_can_be(tmp_path: Path) -> None:
    """A file is in the way: exit code 1, no traceback."""
    (tmp_path / "certs").write_bytes(b"")
    done = zerocopy("certs", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "zerocopy: cannot write certificates to certs: File exists\n"

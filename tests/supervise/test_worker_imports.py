"""What a worker imports, and what it leaves to those who need it."""

from __future__ import annotations

import subprocess
import sys

NOT_NEEDED = {"h2", "hypercorn", "limits", "numpy", "prometheus_client", "redis", "rich", "typer"}


def test_worker_without_tls_imports_no_http2_and_no_page() -> None:
    """HTTP/2 comes with the TLS listener; commands and metrics page are the supervisor's."""
    program = "import sys, zerocopy.supervise.worker; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert not NOT_NEEDED & set(done.stdout.split())

"""`python -m tests.ktls ARGUMENTS`: run the virtual machine's Python with these arguments."""

from __future__ import annotations

import os
import sys

from tests.ktls.machine import RUN_TIMEOUT_S, Unavailable, machine

if __name__ == "__main__":
    try:
        ended = machine().run(
            sys.argv[1:] or ["-VV"],
            timeout_s=float(os.environ.get("KTLS_TIMEOUT_S", RUN_TIMEOUT_S)),
        )
    except (Unavailable, TimeoutError) as error:
        sys.exit(str(error))
    sys.stderr.write(ended.log)
    sys.stdout.write(ended.output)
    sys.exit(ended.status)

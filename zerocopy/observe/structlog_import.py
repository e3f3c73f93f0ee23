"""structlog, imported without what it would bring along.

Where rich is installed, structlog imports it for tracebacks that are not used here: 90 ms of
processor time in each worker. A None in sys.modules makes that import fail as if rich were not
there; the command line imports it later for itself.
"""

from __future__ import annotations

import sys

_HIDES_RICH = "rich" not in sys.modules
if _HIDES_RICH:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402 - see above

if _HIDES_RICH:
    del sys.modules["rich"]

__all__ = ["structlog"]

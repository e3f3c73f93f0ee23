"""What schemathesis is told beyond /openapi.json; loaded by its command line, not by pytest."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_context: Any, case: Any, _arguments: dict[str, Any]) -> None:
    """Put start before end: JSON Schema cannot compare two parameters, and the contract does."""
    ends = [str((case.query or {}).get(name)) for name in ("start", "end")]
    if all(end.isdecimal() for end in ends):
        case.query["start"], case.query["end"] = sorted(ends, key=int)

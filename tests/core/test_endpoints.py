"""Which endpoint a target names."""

from __future__ import annotations

import orjson

from tests.table import each
from zerocopy.core import endpoints
from zerocopy.core.endpoints import NAMES, PATHS, endpoint_of
from zerocopy.service.openapi.document import OPENAPI

PATHS_DESCRIBED = set(orjson.loads(orjson.dumps(OPENAPI))["paths"])


@each(
    ("target", "name"),
    [
        (b"/api/data", "data"),
        (b"/api/data?symbol=A", "data"),
        (b"/api/data?", "data"),
        (b"/api/symbols?exchange=a", "symbols"),
        (b"/healthz", "healthz"),
        (b"/readyz?x", "readyz"),
        (b"/openapi.json", "openapi"),
        (b"/api/data/", "other"),
        (b"/API/data", "other"),
        (b"/api%2Fdata", "other"),
        (b"/", "page"),
        (b"/?view=1", "page"),
        (b"/ui/app.0123.js", "page"),
        (b"/ui", "other"),
        (b"*", "other"),
        (b"", "other"),
        (b"?/api/data", "other"),
    ],
)
def test_endpoint_is_that_of_the_path_to_the_byte(target: bytes, name: str) -> None:
    """The query does not matter; what is not one of the paths is `other`, so none can be made."""
    assert NAMES[endpoint_of(target)] == name


def test_paths_are_those_of_the_description() -> None:
    """Each path of /openapi.json has a name of its own; the page's files share one."""
    assert {path.decode() for path in PATHS} == PATHS_DESCRIBED | {"/api/ticket"}
    assert sorted(PATHS.values()) == [*range(endpoints.PAGE)]
    assert endpoints.OTHER == endpoints.PAGE + 1
    assert len(NAMES) - 1 == endpoints.OTHER

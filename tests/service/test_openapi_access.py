"""What /openapi.json says where `[auth]` is on: a key is asked for, and there are tickets."""

from __future__ import annotations

from typing import Any

import orjson

from zerocopy.service.documents import description
from zerocopy.service.openapi.document import OPENAPI


def test_a_guarded_server_describes_keys_and_tickets() -> None:
    """A valid document of OpenAPI 3.1, private, with the path that a server without lacks."""
    from openapi_spec_validator import validate  # noqa: PLC0415 - slow to import

    response = description(is_private=True)
    document: dict[str, Any] = orjson.loads(response.content)
    validate(document)
    assert document["security"] == [{"bearer": []}, {"ticket": []}]
    assert document["paths"].keys() - OPENAPI["paths"].keys() == {"/api/ticket"}  # type: ignore[attr-defined]
    post = document["paths"]["/api/ticket"]["post"]
    assert post["security"] == [{"bearer": []}]
    assert post["responses"].keys() == {"200", "400", "401", "405", "429", "503"}
    assert (b"Vary", b"Accept-Encoding, Authorization") in response.fields


def test_another_server_says_nothing_of_tickets() -> None:
    """It has none."""
    assert b"ticket" not in description(is_private=False).content

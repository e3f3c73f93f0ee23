"""The list of formats: every one can be loaded, and the file names that are offered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zerocopy.core.query import FORMATS, Query
from zerocopy.service import representations
from zerocopy.service.representations import MEDIA_TYPES, disposition, represent_by

QUERY = Query("coinbase", "BTC-USD", "MD", 0, 4_294_967_295, ("time",))


def test_every_format_has_a_function_and_a_media_type_of_its_own() -> None:
    """No two can be taken for each other."""
    assert len(set(map(represent_by, FORMATS))) == len(set(MEDIA_TYPES)) == len(FORMATS)


def test_columns_offers_no_file_name() -> None:
    """Its content is no file that a program opens."""
    assert disposition(QUERY) == ()


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("BTC-USD", "BTC-USD"), ("tAAVE:USD", "tAAVE_USD"), ("^GSPC", "_GSPC"), ("A&#~B", "A___B")],
)
def test_a_file_name_tells_series_and_range(
    monkeypatch: pytest.MonkeyPatch, symbol: str, name: str
) -> None:
    """Quoted as a string (RFC 6266); what other systems refuse in a file name is an underscore."""
    known = {"other": representations._Format("x/y", "xy")}
    monkeypatch.setattr(representations, "_FORMATS", known)
    assert disposition(replace(QUERY, symbol=symbol, format="other")) == (
        (
            b"Content-Disposition",
            b'attachment; filename="coinbase_%s_MD_19700101T000000Z_21060207T062815Z.xy"'
            % name.encode(),
        ),
    )

"""The list of formats: every one can be loaded, and the file names that are offered."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from zerocopy.core.errors import NotInstalledError
from zerocopy.core.query import COMPUTED, FORMATS, MEDIA_TYPES, Query
from zerocopy.service import representations
from zerocopy.service.representations import disposition, encoder_of, represent_by

QUERY = Query("coinbase", "BTC-USD", "MD", 0, 4_294_967_295, ("time",))


def test_every_format_has_a_function_and_a_media_type_of_its_own() -> None:
    """No two can be taken for each other."""
    functions = {represent_by(name) for name in FORMATS if name not in COMPUTED}
    encoders = {encoder_of(name) for name in COMPUTED}
    assert len(functions) + len(encoders) == len(set(MEDIA_TYPES.values())) == len(FORMATS)
    for name in COMPUTED:
        assert encoder_of(name).media_type.decode() == MEDIA_TYPES[name]
    assert len({encoder.tag for encoder in encoders}) == len(COMPUTED)


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_a_format_without_its_extra_is_told_by_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """501, and what would have to be installed."""
    monkeypatch.delitem(sys.modules, f"zerocopy.formats.{name}", raising=False)
    for module in ("polars", "polars.io.plugins"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NotInstalledError, match=r"format: .* needs zerocopy\[formats\]") as raised:
        encoder_of.__wrapped__(name)
    assert raised.value.status == 501


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
    monkeypatch.setattr(representations, "_EXTENSIONS", {"other": "xy"})
    assert disposition(replace(QUERY, symbol=symbol, format="other")) == (
        (
            b"Content-Disposition",
            b'attachment; filename="coinbase_%s_MD_19700101T000000Z_21060207T062815Z.xy"'
            % name.encode(),
        ),
    )

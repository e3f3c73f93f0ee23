"""Accept-Encoding: which coding is chosen, and for which targets it is looked at at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.table import each
from zerocopy.core.codings import (
    CODINGS,
    GZIP,
    IDENTITY,
    NOTHING,
    ZSTD,
    Accepted,
    accepted,
    accepted_by,
)
from zerocopy.core.endpoints import endpoint_of

WEIGHTS = ("", ";q=0", ";q=0.001", ";q=0.5", ";q=1")
DATA = b"/api/data?symbol=X&type=MD&start=0&end=1&columns=time"


def by(target: bytes, *values: bytes) -> Accepted:
    """What a request for `target` takes whose lines of Accept-Encoding are `values`."""
    fields = [(b"host", b"x"), *((b"accept-encoding", value) for value in values)]
    return accepted_by(target, endpoint_of(target), fields)


def weight_of(spelled: str) -> float:
    """The weight that a member ends with; none is 1."""
    return float(spelled.removeprefix(";q=")) if spelled else 1.0


@each(
    ("value", "coding", "takes_zstd"),
    [
        # What clients send: Chromium over TLS and without, curl, Go, cloudflared, urllib3.
        (b"gzip, deflate, br, zstd", ZSTD, True),
        (b"gzip, deflate", GZIP, False),
        (b"deflate, gzip, br, zstd", ZSTD, True),
        (b"gzip", GZIP, False),
        (b"gzip, br", GZIP, False),
        (b"identity", IDENTITY, False),
        # RFC 9110 section 12.5.3 and its examples.
        (b"compress, gzip", GZIP, False),
        (b"", IDENTITY, False),
        (b"*", ZSTD, True),
        (b"compress;q=0.5, gzip;q=1.0", GZIP, False),
        (b"gzip;q=1.0, identity; q=0.5, *;q=0", GZIP, False),
        (b"*;q=0", IDENTITY, False),
        (b"identity;q=0", IDENTITY, False),
        (b"identity;q=0, gzip;q=0.1", GZIP, False),
        # Weights: the best wins, zstd among equals, and identity only where it is named above it.
        (b"zstd;q=0.5, gzip", GZIP, True),
        (b"zstd;q=0.5, gzip;q=0.5", ZSTD, True),
        (b"zstd;q=0, gzip;q=0", IDENTITY, False),
        (b"zstd;q=0, *", GZIP, False),
        (b"identity, gzip;q=0.9", IDENTITY, False),
        (b"identity;q=0.5, zstd;q=0.5", ZSTD, True),
        (b"identity, zstd;q=0.1", IDENTITY, True),
        (b"gzip;q=0.001", GZIP, False),
        (b"gzip;q=0.000", IDENTITY, False),
        # Spelling: names and q in any case, blanks, empty members, the old name, the last of two.
        (b"GZip ;\tQ=1.000 ,, ", GZIP, False),
        (b"x-gzip", GZIP, False),
        (b"gzip, gzip;q=0", IDENTITY, False),
        # What is not spelled so is as if it were not there.
        (b"gzip;q=1.1", IDENTITY, False),
        (b"gzip;q=0.1234", IDENTITY, False),
        (b"gzip;q=.5", IDENTITY, False),
        (b"gzip;q=-1, zstd", ZSTD, True),
        (b"gzip;level=9", IDENTITY, False),
        (b"gz ip, \xff", IDENTITY, False),
    ],
)  # fmt: skip
def test_accept_encoding_chooses_a_coding(value: bytes, coding: bytes, *, takes_zstd: bool) -> None:
    """One of zstd, gzip and none, and whether zstd may be sent to who asks for it."""
    found = accepted(value)
    assert (found.coding, found.takes_zstd) == (coding, takes_zstd)


@given(
    st.permutations(["zstd", "gzip", "identity", "*"]), st.tuples(*[st.sampled_from(WEIGHTS)] * 4)
)
def test_what_is_chosen_is_never_refused(names: list[str], weights: tuple[str, ...]) -> None:
    """Whatever is said in whatever order: nothing with q=0, and nothing better is passed over."""
    said = dict(zip(names, map(weight_of, weights), strict=True))
    value = ",".join(name + weight for name, weight in zip(names, weights, strict=True))
    found = accepted(value.encode())
    best = max(said["zstd"], said["gzip"])
    if found.coding == IDENTITY:
        assert best == 0 or said["identity"] > best
    else:
        assert said[found.coding.decode()] == best > 0
        assert said["identity"] <= best
    assert found.takes_zstd == (said["zstd"] > 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(value: bytes) -> None:
    """A field of anything gives something that may be sent, and the same object each time."""
    found = accepted(value)
    assert found.coding in {IDENTITY, *CODINGS}
    assert accepted(value) is found


def test_long_fields_take_linear_time() -> None:
    """A field of blanks or of members, as long as a head may be, is read once."""
    for value in (
        b" " * 32_768,
        b"gzip" + b"\t" * 32_768 + b"x",
        b"gzip;q=0," * 3_640,
        b"," * 32_768,
    ):
        assert accepted(value).coding == IDENTITY


@each(
    ("target", "is_coded"),
    [
        (b"/", True),
        (b"/ui/zerocopy.js", True),
        (b"/api/symbols", True),
        (b"/api/symbols?exchange=kraken", True),
        (b"/api/catalog?symbol=X", True),
        (b"/openapi.json", True),
        (b"/healthz", False),
        (b"/readyz", False),
        (b"/api/live?symbol=X&format=json", False),
        (b"/nowhere.json", False),
        (DATA, False),
        (DATA + b"&format=arrow", False),
        (DATA + b"&format=parquet", False),
        (DATA + b"&format=json", True),
        (DATA + b"&format=csv", True),
        (DATA + b"&format=%6Ason", True),
        (DATA + b"&compress=zstd", True),
        (DATA + b"&%63ompress=zstd", True),
        (DATA.replace(b"data", b"bars"), False),
        (DATA.replace(b"data", b"bars") + b"&format=csv", True),
    ],
)
def test_targets_of_one_form_share_their_answer(target: bytes, *, is_coded: bool) -> None:
    """Where no coding can be chosen, all clients look alike; elsewhere each gets its own."""
    assert (by(target, b"zstd") is not NOTHING) == is_coded
    assert (by(target, b"zstd") is by(target, b"gzip")) != is_coded
    assert (by(target) is by(target, b"identity")) != is_coded


def test_without_the_field_zstd_may_be_asked_for() -> None:
    """Section 12.5.3: any coding may be sent; nothing is coded unless the query says so."""
    found = by(DATA + b"&format=json")
    assert (found.coding, found.takes_zstd) == (IDENTITY, True)


def test_lines_of_the_field_are_one_list() -> None:
    """RFC 9110 section 5.3."""
    found = by(b"/api/symbols", b"zstd;q=0.1", b"gzip")
    assert found is accepted(b"zstd;q=0.1, gzip")
    assert (found.coding, found.takes_zstd) == (GZIP, True)


def test_a_field_without_end_is_not_read() -> None:
    """Each member costs a search, and heads may have 32 KiB; a field of any client is read."""
    assert by(b"/api/symbols", b"gzip" + b", x" * 300).coding == GZIP
    assert by(b"/api/symbols", b"gzip" + b", x" * 400) is NOTHING
    assert by(b"/api/symbols", *[b"gzip"] * 400) is NOTHING

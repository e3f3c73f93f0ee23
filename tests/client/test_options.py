"""Where the server is and who asks."""

from __future__ import annotations

import pytest

from zerocopy.client import BadRequest, Client
from zerocopy.client.options import read_options


def test_a_url_has_a_scheme_a_host_and_perhaps_more() -> None:
    """A path before /api, a port, IPv6."""
    options = read_options("https://Data.example.com/zc/", None, None, 30)
    assert (options.origin, options.prefix) == ("https://data.example.com:443", "/zc")
    assert read_options("http://[::1]:8080", None, None, 30).origin == "http://[::1]:8080"
    assert read_options("http://h", None, None, 30).port == 80
    assert (
        repr(Client("http://127.0.0.1:8080/x", key="s3cr3t")) == "Client('http://127.0.0.1:8080/x')"
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "ftp://h",
        "http://",
        "http://h:port",
        "http://h:99999",
        "http://h?a=1",
        "http://a..b",
    ],
)
def test_a_url_that_is_none_is_told_what_would_be_right(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an example."""
    monkeypatch.delenv("ZEROCOPY_URL", raising=False)
    with pytest.raises(BadRequest, match=r"^url: .*http://127\.0\.0\.1:8080") as caught:
        Client(url)
    assert caught.value.status is None


@pytest.mark.parametrize("url", ["http://h/a b", "http://h/ä"])
def test_a_path_that_no_request_can_have_is_told(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(BadRequest, match="percent-encoded"):
        Client(url)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_nothing_can_wait_for_is_told(timeout: float) -> None:
    """The system takes no infinity."""
    with pytest.raises(BadRequest, match=r"^timeout: .* at most"):
        Client("http://h", timeout=timeout)


def test_the_environment_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the url and the key; arguments win."""
    monkeypatch.delenv("ZEROCOPY_URL", raising=False)
    with pytest.raises(BadRequest, match="ZEROCOPY_URL"):
        Client()
    monkeypatch.setenv("ZEROCOPY_URL", "http://there:1")
    monkeypatch.setenv("ZEROCOPY_KEY", "of-the-environment")
    options = read_options(None, None, None, 30)
    assert options.origin == "http://there:1"
    assert options.fields == {"Authorization": "Bearer of-the-environment"}
    assert read_options("http://here:2", "mine", None, 30).fields == {
        "Authorization": "Bearer mine"
    }
    monkeypatch.setenv("ZEROCOPY_KEY", "")
    assert read_options(None, None, None, 30).fields == {}


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel", "nul\0"])
def test_a_key_that_is_none_is_refused_without_telling_it(key: str) -> None:
    """http.client would show it in its error."""
    with pytest.raises(BadRequest, match=r"^key: ") as caught:
        Client("http://h", key=key)
    assert not key or key not in str(caught.value)


def test_a_password_in_the_url_is_refused_without_telling_it() -> None:
    """Nobody would see it go over the wire."""
    with pytest.raises(BadRequest, match="key=") as caught:
        Client("http://user:s3cr3t@h")
    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in repr(read_options("http://h", "s3cr3t", None, 30))


def test_a_ca_that_is_no_pem_file_is_told() -> None:
    """By its name."""
    for path in ("/nowhere.pem", __file__):
        with pytest.raises(BadRequest, match=r"ca: .*must be a PEM file"):
            Client("https://h", ca=path)

"""The page of a server with a key file: it asks for a key, and shows nothing without one."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.blackbox.chromium import CHROMIUM
from tests.faults.client import poll
from tests.server import ForkedServer
from tests.web.drawn import assert_draws
from tests.web.market import BTC_VIEW, Recorder, make_market
from zerocopy.access.keys import add_key, revoke_key
from zerocopy.core.access import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.naive_bars import Tick
    from tests.web.tab import Tab

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

REFUSED = re.compile(
    r"network: Failed to load resource: .* status of (401|404|429) .*/api/"
    r"|network: WebSocket .*/api/live.* closed before the connection is established"
    r"|network: WebSocket .*/api/live.* Unexpected response code: (401|429)"
)
"""What Chromium itself says of each request that was refused, or of a socket that the page closed
while it opened; no script can prevent it."""

DIALOG = "document.querySelector('#key[open]')"
DRAWN = "window.zerocopy.panes().some((pane) => pane.x.length)"
STORED = "JSON.stringify({...sessionStorage})"

# From now on requests meet a limit that lasts `waitS` seconds, which pass when `ends` is called.
LIMITED = """
{
  const { fetch, setTimeout } = window;
  window.fetch = async (target, init) => {
    if (window.passes) return fetch(target, init);
    const detail = "this key may ask 9 times a second; try again in 1 s";
    const content = JSON.stringify({ detail });
    return new Response(content, { status: 429, headers: { "Retry-After": window.waitS } });
  };
  window.setTimeout = (callback, ms, ...more) =>
    ms === 40_000 ? (window.ends = callback) : setTimeout(callback, ms, ...more);
}
"""


class Guarded(NamedTuple):
    """A server, where its page is, its key file, and the keys in it."""

    base: str
    path: str
    ticks: list[Tick]
    everything: str
    some: str


@pytest.fixture(name="guarded", scope="module")
def fixture_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """BTC-USD, ETH-USD and LIVE; one key sees all, one all but BTC-USD."""
    root = str(tmp_path_factory.mktemp("guarded"))
    path = str(tmp_path_factory.mktemp("keys") / "keys.json")
    ticks = make_market(root)
    Recorder(root)
    keys = add_key(path, "all"), add_key(path, "some", scope=Scope(symbols=("ETH-*", "LIVE")))
    with ForkedServer(root, ZEROCOPY_AUTH_KEYS_PATH=path) as running:
        yield Guarded(f"http://127.0.0.1:{running.port}/", path, ticks, *keys)
    shutil.rmtree(root)


@pytest.fixture(name="tab")
def fixture_tab(only_tab: Tab) -> Iterator[Tab]:
    """The tab, as new; the page in it may complain of refused requests alone."""
    only_tab.forget()
    yield only_tab
    complaints = [each for each in only_tab.complaints() if not REFUSED.match(each)]
    only_tab.evaluate("sessionStorage.clear()")
    assert complaints == []


def enter(tab: Tab, key: str) -> None:
    """Type a key into the dialog, which has the focus."""
    tab.until(f"{DIALOG} && document.activeElement.id === 'key-value'")
    tab.write(key)
    tab.key("Enter")


def spoken(tab: Tab, role: str) -> tuple[str, str]:
    """Name and description of the one element of a role, as a screen reader has them."""
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    [node] = [node for node in nodes if node.get("role", {}).get("value") == role]
    return node["name"]["value"], node["description"]["value"]


def enter_new(tab: Tab, guarded: Guarded, key: str) -> None:
    """Open the page and enter a key until the server knows it: within two seconds."""
    tab.open(guarded.base)
    tab.until(DIALOG)
    while tab.evaluate(f"Boolean({DIALOG})"):
        enter(tab, key)
        tab.until(f"!{DIALOG} || document.querySelector('#key-wrong').textContent")


def open_with(tab: Tab, guarded: Guarded, key: str, view: str) -> None:
    """The page at a view, as a tab that has a key already."""
    tab.open(guarded.base)
    tab.until(DIALOG)
    tab.evaluate(f"sessionStorage.setItem('zerocopy.key', {json.dumps(key)})")
    tab.open(f"{guarded.base}?again{view}")
    tab.until(DRAWN)


def test_a_key_is_asked_for_and_kept_for_the_session(
    tab: Tab, guarded: Guarded, tmp_path: Path
) -> None:
    """By keyboard alone; a wrong one is told so and not kept; a reload goes on with the right."""
    tab.open(f"{guarded.base}{BTC_VIEW}")
    tab.until(f"{DIALOG} && document.activeElement.id === 'key-value'")
    assert tab.text("#key-title") == "This server asks for a key"
    assert tab.evaluate("document.querySelectorAll('#symbols li, canvas').length") == 0
    assert spoken(tab, "dialog") == (
        "This server asks for a key",
        "Paste the key that you were given. Until then nothing is shown.",
    )
    enter(tab, "zc_wrong")
    tab.until("document.querySelector('#key-wrong').textContent.includes('not accepted')")
    assert (
        tab.evaluate("document.querySelector('#key-value').getAttribute('aria-invalid')") == "true"
    )
    assert spoken(tab, "textbox") == ("Key", tab.text("#key-wrong"))
    assert tab.evaluate(STORED) == "{}"
    enter(tab, "two words")  # it was selected, so it is replaced
    tab.until("!document.querySelector('#key-use').disabled")
    tab.key("Escape")
    tab.until(f"!{DIALOG}")
    tab.until("document.querySelector('#key-value').value === ''")
    tab.evaluate("document.querySelector('#notice button').focus()")
    tab.key("Enter")
    enter(tab, guarded.everything)
    tab.until(f"!{DIALOG} && {DRAWN} && window.zerocopy.state().symbol === 'BTC-USD'")
    tab.until("window.zerocopy.state().live === 'open'")
    assert json.loads(tab.evaluate(STORED)) == {"zerocopy.key": guarded.everything}
    assert tab.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    tab.key("e")
    tab.until("document.querySelector('#export[open]')")
    assert '-H "Authorization: Bearer $ZEROCOPY_KEY"' in tab.text("#export-curl")
    assert 'key=os.environ["ZEROCOPY_KEY"]' in tab.text("#export-python")
    told = tab.evaluate("location.href + document.documentElement.outerHTML")
    assert guarded.everything not in told
    assert "ticket=" not in told
    tab.download_to(str(tmp_path))
    tab.click("#export-links a[data-format=csv]")
    tab.until("document.querySelector('#export-status').textContent === 'The download has begun.'")
    poll(lambda: any(tmp_path.glob("*.csv")), "the download")
    [saved] = tmp_path.iterdir()
    assert saved.read_bytes().count(b"\n") == len(guarded.ticks) + 1
    tab.call("Page.reload")
    tab.until(f"window.zerocopy && {DRAWN}")
    assert not tab.evaluate(f"Boolean({DIALOG})")


def test_another_key_sees_nothing_of_the_one_before(tab: Tab, guarded: Guarded) -> None:
    """Once it is forgotten, nothing is drawn, listed or kept; not in the browser's cache either."""
    open_with(tab, guarded, guarded.everything, BTC_VIEW)
    tab.idle()
    bars = tab.evaluate(
        "performance.getEntriesByType('resource').map(({ name }) => name)"
        ".filter((name) => name.includes('/api/bars'))"
    )
    assert bars
    tab.resize(390, 800, is_phone=True)  # the list lies over the chart
    tab.click("#open-list")
    tab.click("#forget")
    tab.until("document.querySelector('#notice').textContent.includes('forgotten')")
    assert tab.evaluate(STORED) == "{}"
    assert tab.evaluate("[location.hash, document.title]") == ["#/", "zerocopy"]
    assert tab.evaluate("document.querySelectorAll('canvas').length") == 0
    assert "BTC-USD" not in tab.evaluate("document.documentElement.outerHTML")
    assert tab.evaluate("document.activeElement.textContent") == "Enter a key"
    tab.key("Enter")
    enter(tab, guarded.some)
    tab.until(f"!{DIALOG} && {DRAWN}")
    names = tab.evaluate(
        "[...document.querySelectorAll('.symbol')].map((each) => each.textContent)"
    )
    assert sorted(names) == ["ETH-USD", "LIVE"]
    headers = json.dumps({"Authorization": f"Bearer {guarded.some}"})
    statuses = tab.evaluate(
        f"Promise.all({json.dumps(bars)}.map((url) => fetch(url, {{ headers: {headers} }})"
        ".then(({ status }) => status)))"
    )
    assert set(statuses) == {404}
    tab.evaluate(f"location.hash = {json.dumps(BTC_VIEW)}")
    tab.until("document.querySelector('#notice').textContent.includes('There is no BTC-USD')")


def test_a_key_that_is_revoked_amid_a_session_is_asked_for_again(
    tab: Tab, guarded: Guarded
) -> None:
    """What it showed is gone; with another key the page goes on where it was."""
    key = add_key(guarded.path, "leaver")
    enter_new(tab, guarded, key)
    tab.until(
        "window.zerocopy.state().live === 'open'"
    )  # a socket that opens is not closed quietly
    tab.evaluate("location.hash = '#/coinbase/LIVE/MD?last=400'")
    tab.until(
        "window.zerocopy.state().symbol === 'LIVE' && window.zerocopy.state().live === 'open'"
    )
    revoke_key(guarded.path, "leaver")
    tab.until(DIALOG)
    assert tab.text("#key-title") == "Your key holds no longer"
    assert tab.evaluate(STORED) == "{}"
    assert tab.evaluate("document.querySelectorAll('#symbols li, canvas').length") == 0
    enter(tab, guarded.everything)
    tab.until(f"!{DIALOG} && {DRAWN} && window.zerocopy.state().live === 'open'")
    state = tab.evaluate("window.zerocopy.state()")
    assert (state["symbol"], state["follow"]) == ("LIVE", True)
    assert state["view"]["end"] - state["view"]["start"] == pytest.approx(400, abs=1)


def test_a_page_that_came_in_the_clear_warns(tab: Tab, guarded: Guarded) -> None:
    """Before a key is typed; not on this machine, where nobody is on the way."""
    tab.open(guarded.base)
    tab.until(DIALOG)
    assert tab.evaluate("document.querySelector('#key-plain').hidden")
    script = "Object.defineProperty(window, 'isSecureContext', { value: false })"
    added = tab.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    tab.open(f"{guarded.base}?clear")
    tab.until(DIALOG)
    tab.call("Page.removeScriptToEvaluateOnNewDocument", **added)
    assert not tab.evaluate("document.querySelector('#key-plain').hidden")


def test_a_key_that_may_see_nothing_is_told_so(tab: Tab, guarded: Guarded) -> None:
    """Not that the server has no files."""
    key = add_key(guarded.path, "none", scope=Scope(symbols=("NONE",)))
    enter_new(tab, guarded, key)
    tab.until("document.querySelector('#notice').textContent.includes('Nothing to see')")


@pytest.mark.usefixtures("whole_day")
def test_a_limit_of_the_server_is_told_in_its_words(tab: Tab, guarded: Guarded) -> None:
    """A day's bytes: the page goes on when the day ends."""
    key = add_key(guarded.path, "little", bytes_per_day=600)  # a list of symbols, and a catalog
    tab.call("Network.setCacheDisabled", cacheDisabled=True)  # a 304 costs nothing
    enter_new(tab, guarded, key)
    tab.until("!document.querySelector('#banner').hidden")
    tab.call("Network.setCacheDisabled", cacheDisabled=False)
    told = tab.text("#banner")
    assert told.startswith("This key or token may have 600 bytes a day (UTC) and has ")
    assert ". The page goes on " in told


def test_a_limit_is_told_and_waited_for(tab: Tab, guarded: Guarded) -> None:
    """A short one by the client; after a long one the page asks again for what it had not."""
    open_with(tab, guarded, guarded.everything, f"{BTC_VIEW}?last=9000")
    tab.idle()
    tab.evaluate(LIMITED)
    for wait_s, go_on in ((1, ""), (40, "window.ends();")):
        tab.evaluate(f"window.passes = false; window.waitS = {wait_s}")
        tab.evaluate(
            "window.zerocopy.chart.showNewest(20000)"
            if go_on
            else "window.zerocopy.chart.showAll()"
        )
        told = f"This key may ask 9 times a second. The page goes on in {wait_s} s."
        tab.until(f"document.querySelector('#banner').textContent === {json.dumps(told)}")
        tab.until("window.zerocopy.chart.loader.loading === 0" if go_on else "true")
        tab.evaluate(f"window.passes = true; {go_on}")
        tab.until("document.querySelector('#banner').hidden")
        tab.until("window.zerocopy.chart.loader.loading === 0 && window.zerocopy.chart.count > 0")
        tab.idle()
        assert_draws(tab, guarded.ticks)

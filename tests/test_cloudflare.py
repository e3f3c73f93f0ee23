"""The configuration that docs/cloudflare.md tells people to copy fits the server's defaults."""

from __future__ import annotations

import re
from pathlib import Path

from zerocopy.config.load import Config

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "cloudflare.md").read_text("utf-8")


def test_tunnel_closes_connections_before_the_server_does() -> None:
    """Who sends the requests is to close first, so that none meets a connection that is closing."""
    tunnel_s = float(re.findall(r"^ +keepAliveTimeout: (\d+)s$", PAGE, re.MULTILINE)[0])
    server_s = float(re.findall(r"^ +idle_s = ([\d.]+)", PAGE, re.MULTILINE)[0])
    assert tunnel_s < server_s == Config().timeouts.idle_s


def test_each_option_of_the_tunnel_is_explained() -> None:
    """The table names what the configuration sets, option by option and in its order."""
    block = PAGE.split("originRequest:\n")[1].split("  - service")[0]
    assert re.findall(r"^ +(\w+):", block, re.MULTILINE) == re.findall(
        r"^\| `(\w+)` \|", PAGE, re.MULTILINE
    )


def test_each_source_is_cited() -> None:
    """Every number in brackets is in the list of sources, and the other way round."""
    text, sources = PAGE.split("## Sources")
    listed = {int(number) for number in re.findall(r"^(\d+)\. ", sources, re.MULTILINE)}
    cited = {
        int(number) for group in re.findall(r"\[([\d, ]+)\]", text) for number in group.split(",")
    }
    assert cited == listed == set(range(1, len(listed) + 1))

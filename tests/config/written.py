"""A configuration file of the working directory, and what is said of one that is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from zerocopy.config.load import load
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def write(text: str, name: str = "config.toml") -> str:
    """Write a configuration file into the working directory."""
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def refusal(text: str = "", **places: Mapping[str, Any]) -> str:
    """Give the one line with which a file, an environment or flags are refused."""
    write(text)
    with pytest.raises(ConfigError) as caught:
        load(environ=places.get("environ", {}), flags=places.get("flags"))
    assert "\n" not in caught.value.detail
    return caught.value.detail

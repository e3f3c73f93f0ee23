"""config.toml is the manual: it has every option, its default and its words, and nothing else."""

from __future__ import annotations

import os
import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from zerocopy.config.load import OPTIONS, PROFILES, Config, ListenerPorts, load

if TYPE_CHECKING:
    from pathlib import Path

MANUAL = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "config.toml")
TABLES = [
    table for table in Config.__struct_fields__ if table not in ("profile", "path", "origins")
]


def read_manual() -> dict[tuple[str, str], tuple[object, str]]:
    """Read the keys of config.toml, live or commented out, with value and comment block."""
    keys: dict[tuple[str, str], tuple[object, str]] = {}
    table, comment = "", ""
    with open(MANUAL, encoding="utf-8") as file:
        for line in file:
            header = re.fullmatch(r"(?:# )?\[([a-z0-9.]+)\]\n", line)
            entry = re.fullmatch(r"(# )?([a-z_0-9]+) = (.*)\n", line)
            if header:
                table, comment = header[1], ""
            elif entry:
                parsed = None if entry[1] else tomllib.loads(line)[entry[2]]
                assert (table, entry[2]) not in keys
                keys[table, entry[2]] = (parsed, " ".join(comment.split()))
                comment = ""
            else:
                comment = comment + line[1:] if line.startswith("#") else ""
    return keys


def test_manual_documents_every_option_with_its_words_and_default() -> None:
    """Each key of the Structs is in config.toml: value, description, then what else to know."""
    manual = read_manual()
    for option in OPTIONS.values():
        default, comment = manual[option.table, option.key]
        assert default == option.defaults["development"]
        assert comment.startswith(option.description), (option.table, option.key)
        assert len(comment) > len(option.description) + 10, (option.table, option.key)
        assert comment.endswith(".")
        for variable in option.variables[1:]:
            assert f"Environment: {variable}." in comment
        if option.defaults["production"] != option.defaults["development"]:
            default, comment = manual[f"production.{option.table}", option.key]
            assert default == option.defaults["production"]
            assert comment.startswith(option.description)


def test_manual_holds_no_key_that_does_not_exist() -> None:
    """Each key of config.toml, the commented examples too, is one that the Structs declare."""
    for table, key in read_manual():
        common = table.removeprefix("production.")
        assert common == "columns" or f"{common}.{key}" in OPTIONS


@pytest.mark.parametrize("profile", PROFILES)
def test_manual_loads_as_the_defaults(profile: str) -> None:
    """Starting with the shipped file is the same as starting with none."""
    environ = {"ZEROCOPY_PROFILE": profile}
    shipped, defaults = load(MANUAL, environ=environ), load(os.devnull, environ=environ)
    for table in TABLES:
        assert getattr(shipped, table) == getattr(defaults, table)


def test_manual_examples_load(tmp_path: Path) -> None:
    """Every commented example becomes a configuration that is accepted when it is let in."""
    with open(MANUAL, encoding="utf-8") as file:
        text = re.sub(r"(?m)^# (\[[a-z.]+\]|[a-z_0-9]+ = .*)$", r"\1", file.read())
    path = tmp_path / "examples.toml"
    path.write_text(text, encoding="utf-8")
    config = load(str(path), environ={"PORT": "8444", "ZEROCOPY_PROFILE": "production"})
    assert config.columns == {"id": "u8", "maker_order_id": "S16"}
    assert config.listeners() == ListenerPorts(plain_port=8080, tls_port=8444)
    assert config.limits.connections_max != Config().limits.connections_max

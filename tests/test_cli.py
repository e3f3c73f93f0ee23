"""The list of commands is complete and quick to load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import zerocopy.commands
from zerocopy.cli import COMMANDS, command_line

FOLDER = Path(zerocopy.commands.__path__[0])
NO_COMMANDS = {"__init__", "shared", "ingest_flags"}
FOLDERS_OF_COMMANDS = {"client": {"get", "bars", "tail"}}
"""Commands that share a folder; any other folder has one, of its own name."""

LIGHT = {"typer", "rich"}
"""Dependencies that write the help."""

HELP = """
import sys
from importlib.metadata import packages_distributions, requires
from re import match
from zerocopy.cli import command_line
command_line()(["--help"], standalone_mode=False)
ours = {match(r"[\\w-]+", line)[0].lower() for line in requires("zerocopy")}
by_root = packages_distributions()
for root in {name.partition(".")[0] for name in sys.modules}:
    if ours & set(by_root.get(root, ())):
        print(root, file=sys.stderr)
print(*(name for name in sys.modules if name.startswith("zerocopy.")), sep="\\n", file=sys.stderr)
"""
"""Prints what the help has loaded: dependencies of pyproject.toml, and modules of ours."""

NAMED = """
import atexit
import sys
from zerocopy.cli import main
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
main()
"""
"""Prints what a command has loaded."""


def test_every_file_and_folder_of_commands_is_in_the_list() -> None:
    """Each command is in a file or a folder of its own, but for `FOLDERS_OF_COMMANDS`."""
    files = {path.stem for path in FOLDER.glob("*.py")} - NO_COMMANDS
    folders = {
        f"{path.parent.name}.{path.stem}"
        for path in FOLDER.glob("*/*.py")
        if path.stem in FOLDERS_OF_COMMANDS.get(path.parent.name, {path.parent.name})
    }
    assert files | folders == set(COMMANDS)
    app = command_line()
    assert len(app.registered_commands) + len(app.registered_groups) == len(COMMANDS)


def test_help_loads_nothing_that_only_a_command_needs() -> None:
    """Only the files of the commands, and the libraries that write the help."""
    command = [sys.executable, "-P", "-c", HELP]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = set(done.stderr.split())
    names = (*COMMANDS, "shared", "ingest_flags", "client.options")
    commands = {f"zerocopy.commands.{name}" for name in names}
    folders = {name.rpartition(".")[0] for name in commands}
    core = {"zerocopy.cli", "zerocopy.streams", "zerocopy.core", "zerocopy.core.errors"}
    assert "zerocopy.cli" in loaded
    assert loaded - LIGHT - commands - folders - core == set()


def test_command_that_is_named_loads_no_other() -> None:
    """A server starts without the commands that are not asked for."""
    command = [sys.executable, "-P", "-c", NAMED, "serve", "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    commands = {f"zerocopy.commands.{name}" for name in COMMANDS}
    assert set(done.stderr.split()) & commands == {"zerocopy.commands.serve"}

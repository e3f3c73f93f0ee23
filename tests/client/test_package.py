"""The package as its users import it: what it brings, what it names, what its documents say."""

from __future__ import annotations

import doctest
import importlib
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zerocopy.client
from zerocopy.client import Error

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = [
    f"zerocopy.client.{module.name}" for module in pkgutil.iter_modules(zerocopy.client.__path__)
]

LOADED = """
import sys
before = {name.partition(".")[0] for name in sys.modules}
import zerocopy.client
roots = {name.partition(".")[0] for name in sys.modules} - before
print(*sorted(roots - {*sys.stdlib_module_names, "zerocopy"}))
print(*sorted(name for name in sys.modules if name.startswith("zerocopy.")))
"""


def test_the_client_loads_numpy_and_nothing_else() -> None:
    """Of other packages, and nothing of the server."""
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    packages, ours = done.stdout.splitlines()
    assert packages.split() == ["numpy"]
    assert all(name.startswith("zerocopy.client") for name in ours.split())


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_are_true(name: str) -> None:
    """As doctest runs them."""
    module = importlib.import_module(name)
    public = {public: getattr(zerocopy.client, public) for public in zerocopy.client.__all__}
    assert doctest.testmod(module, globs=vars(module) | public | {"np": np}).failed == 0


def test_the_usage_that_is_type_checked_names_all_there_is() -> None:
    """So `make lint` fails where a public name loses its type."""
    usage = (REPOSITORY / "tests/client/typing/usage.py").read_text("utf-8")
    assert [name for name in zerocopy.client.__all__ if name not in usage] == []


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(zerocopy.client).values()
        if isinstance(kind, type) and issubclass(kind, Error)
    ],
)
def test_errors_survive_pickling(kind: type[Error]) -> None:
    """With what they know: a process of a pool tells its parent."""
    error = kind("it is so")
    error.status = 418
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.detail, str(again), again.status) == (
        kind,
        "it is so",
        "it is so",
        418,
    )


def test_the_api_reference_is_up_to_date() -> None:
    """docs/client-python.md is made from the docstrings by docs/client_python.py."""
    command = [sys.executable, "-m", "docs.client_python", "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr

"""The rules of the code base that the import linter does not see, each offender by name."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = sorted((REPOSITORY / "zerocopy").rglob("*.py"))
CORE = sorted((REPOSITORY / "zerocopy" / "core").rglob("*.py"))

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FOLDER_FILES_MAX = 20
ROOT_MODULES_MAX = 4  # beside the packages, __init__.py among them

CORE_MAY_IMPORT = {
    *("__future__", "array", "bisect", "calendar", "collections", "contextvars", "dataclasses"),
    "datetime",
    *("fnmatch", "functools", "math"),  # what a scope matches, and for ever
    *(
        "email",
        "functools",
        "hashlib",
        "ipaddress",
        "itertools",
        "re",
        "reprlib",
        "typing",
        "urllib",
    ),  # values in and out
    "zerocopy",  # import-linter allows only zerocopy.core
}

WITH_NUMPY = {"aggregate.py", "cuts.py", "levels.py"}  # of core, imported when first used

# Prints every package outside the standard library that `import zerocopy.core.*` brought.
LOADED = """
import importlib, pkgutil, sys
import zerocopy.core
known = {*sys.stdlib_module_names, *sys.argv[1].split(","), "zerocopy"}
for module in pkgutil.walk_packages(zerocopy.core.__path__, "zerocopy.core."):
    if module.name.rpartition(".")[2] not in {"aggregate", "cuts", "levels"}:
        importlib.import_module(module.name)
roots = {name.partition(".")[0] for name in sys.modules}
print(*sorted(roots - known))
print(*sorted(name for name in sys.modules if name.startswith("zerocopy.")))
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions_of(path: Path) -> list[Function]:
    """Return every function of a file, methods and nested ones included."""
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, Function)]


def imports_of(path: Path) -> set[str]:
    """Return the top-level names a file imports, under TYPE_CHECKING or not."""
    nodes = list(ast.walk(tree_of(path)))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    of = [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in chain(plain, of)}


def dotted(path: Path) -> str:
    """Return a module's name; a package's is that of its __init__ module."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)


def modules_imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """Return the modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules.keys()


def name_of(path: Path) -> str:
    """Return a file's name as a reader would write it."""
    return str(path.relative_to(REPOSITORY))


def python(*arguments: str) -> list[str]:
    """Return the lines that a fresh interpreter prints."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    return done.stdout.splitlines()


def test_core_loads_only_itself_and_the_standard_library() -> None:
    """In an interpreter of its own, beyond what that one loads at its start (site, .pth files)."""
    [started] = python(
        "-c", "import sys; print(*{n.partition('.')[0] for n in sys.modules}, sep=',')"
    )
    third_party, ours = python("-c", LOADED, started)
    assert third_party.split() == []
    assert {name for name in ours.split() if not name.startswith("zerocopy.core")} == set()
    assert len(ours.split()) == len(CORE) - len(WITH_NUMPY)


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_core_imports_only_what_computes(path: Path) -> None:
    """No os, socket, asyncio, mmap, time, logging, nor any other module that reaches outside."""
    allowed = {"numpy"} if path.name in WITH_NUMPY else set()
    assert imports_of(path) - CORE_MAY_IMPORT == allowed


def test_files_of_the_package_can_be_read_in_one_sitting() -> None:
    """At most 400 lines each."""
    lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in PACKAGE}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_functions_of_the_package_fit_on_a_screen() -> None:
    """At most 70 lines each, from the first decorator to the last statement."""
    lengths = {
        f"{name_of(path)}:{function.lineno} {function.name}": (function.end_lineno or 0)
        - min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        + 1
        for path in PACKAGE
        for function in functions_of(path)
    }
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}


def test_folders_of_the_package_fit_into_one_look() -> None:
    """At most 20 files each, and 4 modules beside the packages."""
    counts = Counter(str(path.parent.relative_to(REPOSITORY)) for path in PACKAGE)
    assert counts.pop("zerocopy") <= ROOT_MODULES_MAX
    assert {name: count for name, count in counts.items() if count > FOLDER_FILES_MAX} == {}


def test_neither_modules_nor_packages_import_each_other() -> None:
    """Not through others either; imports in functions and under TYPE_CHECKING count."""
    modules = {dotted(path): path for path in PACKAGE}
    by_module = {
        module: {name for name in modules_imported(path, modules) if name != module}
        for module, path in modules.items()
    }
    by_package: dict[str, set[str]] = defaultdict(set)
    for module, names in by_module.items():
        package = module.rpartition(".")[0]
        by_package[package] |= {name.rpartition(".")[0] for name in names} - {
            package,
            "",
            "zerocopy",
        }
    for graph in (by_module, by_package):
        TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_modules_of_the_package_say_what_they_own() -> None:
    """Every file of zerocopy/ opens with a docstring."""
    assert [name_of(path) for path in PACKAGE if not ast.get_docstring(tree_of(path))] == []

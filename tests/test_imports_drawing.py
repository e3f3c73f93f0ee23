"""docs/imports.py draws the imports as they are, and refuses those that point up."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.imports import NAME, draw, folder_of, imports_of, main, places
from docs.marked import Block

BLOCK = Block(Path("ARCHITECTURE.md"), NAME)
PAGE = f"# Architecture\n\n{BLOCK.begin}\n{BLOCK.end}\n\nThe end.\n"


def repository(tmp_path: Path, **files: str) -> Path:
    """Write a page and the modules of a package; `a__b` is a/b.py."""
    for name, text in files.items():
        path = tmp_path / "zerocopy" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    (tmp_path / "ARCHITECTURE.md").write_text(PAGE, "utf-8")
    return tmp_path


def arrows(at: Path) -> set[tuple[str, str]]:
    """Return the arrows of the package below `at`."""
    return {(found.source, found.target) for found in imports_of(at / "zerocopy", places())}


def test_drawing_in_the_repository_is_of_this_code_and_points_down() -> None:
    """`python -m docs.imports` was run after the last import that changed the picture."""
    assert main(["--check"]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "from zerocopy.core import plan",
        "from zerocopy.core.plan import Plan",
        "import zerocopy.core.plan",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zerocopy.core import plan",
        "def late():\n    from zerocopy.core import plan",
    ],
)
def test_every_kind_of_import_is_an_arrow(tmp_path: Path, text: str) -> None:
    """Those in functions and under TYPE_CHECKING count too."""
    at = repository(tmp_path, storage__tree=text, core__plan="class Plan: ...")
    assert arrows(at) == {("storage", "core")}


def test_imports_from_elsewhere_are_no_arrows(tmp_path: Path) -> None:
    """The standard library, the folder itself and the version of the package are not drawn."""
    text = "import os\nfrom zerocopy import __version__\nfrom zerocopy.core import errors"
    at = repository(tmp_path, __init__="__version__ = '1'", core__plan=text, core__errors="")
    assert arrows(at) == set()


def test_folder_is_the_longest_that_has_a_place() -> None:
    """A folder that is not named belongs to the one above it, `__main__` to the commands."""
    assert folder_of("zerocopy.transport.http1.parser", places()) == "transport/http1"
    assert folder_of("zerocopy.commands.doctor.report", places()) == "commands"
    assert folder_of("zerocopy.__main__", places()) == "commands"
    assert folder_of("zerocopy", places()) is None


def test_arrows_are_drawn_from_a_dot_to_each_head(tmp_path: Path) -> None:
    """A column begins at the folder that imports and passes by those that it does not import."""
    at = repository(
        tmp_path,
        service__service="import zerocopy.storage.tree, zerocopy.core.plan",
        storage__tree="",
        config__load="import zerocopy.core.plan",
        core__plan="",
    )
    picture = draw(imports_of(at / "zerocopy", places()), places())
    assert picture.splitlines() == [
        "service  ●",
        "",
        "storage  ▼",
        "",
        "config   │  ●",
        "",
        "core     ▼  ▼",
    ]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("core__plan", "storage__tree"),  # up
        ("storage__tree", "observe__log"),  # beside
        ("transport__loop", "transport__http1__parser"),  # up within a group
    ],
)
def test_an_arrow_that_does_not_point_down_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, target: str
) -> None:
    """The exit code is 1 and the sentence names file and line, with and without --check."""
    text = f"\nimport zerocopy.{target.replace('__', '.')}"
    at = repository(tmp_path, **{source: text, target: ""})
    assert main([], at) == 1
    assert main(["--check"], at) == 1
    assert f"zerocopy/{source.replace('__', '/')}.py:2: " in capsys.readouterr().err


def test_an_old_drawing_is_refused_until_it_is_drawn_again(tmp_path: Path) -> None:
    """Drawing changes nothing outside the two marks."""
    at = repository(tmp_path, storage__tree="import zerocopy.core.plan", core__plan="")
    assert main(["--check"], at) == 1
    assert main([], at) == 0
    assert main(["--check"], at) == 0
    page = (at / "ARCHITECTURE.md").read_text("utf-8")
    assert page.startswith(f"# Architecture\n\n{BLOCK.begin}\n```\nstorage  ●\n")
    assert page.endswith(f"\n```\n{BLOCK.end}\n\nThe end.\n")


def test_a_new_folder_asks_for_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence names the folder and where to add it."""
    at = repository(tmp_path, novelty__thing="import zerocopy.core.plan", core__plan="")
    assert main(["--check"], at) == 1
    assert capsys.readouterr().err == "zerocopy/novelty has no place in LAYERS\n"


def test_a_page_without_marks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written to a page that has no place for the drawing."""
    at = repository(tmp_path, core__plan="")
    (at / "ARCHITECTURE.md").write_text("# Architecture\n", "utf-8")
    assert main([], at) == 1
    assert BLOCK.begin in capsys.readouterr().err

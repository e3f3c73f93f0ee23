"""The Python of the documents runs as it stands: README.md, docs/ and the notebook."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.command_line import ZEROCOPY
from tests.server import RunningServer
from zerocopy.commands.client.asking import URL_DEFAULT
from zerocopy.commands.development.sample_data import GenerateSpec, date_of, generate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

REPOSITORY = Path(__file__).resolve().parent.parent
FIRST_DAY = 20_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over two days of what the demo has."""
    root = tmp_path_factory.mktemp("data")
    spec = GenerateSpec(
        root=str(root),
        first_day=date_of(FIRST_DAY),
        symbols=("BTC-USD", "ETH-USD"),
        days=2,
        records_per_day=5_000,
    )
    generate(spec)
    with RunningServer(root) as server:
        yield f"http://127.0.0.1:{server.port}"


def blocks_of(document: str) -> list[str]:
    """The blocks of Python of a document, in order."""
    text = (REPOSITORY / document).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", ["README.md", "docs/protocol.md"])
def test_python_of_a_document_runs(
    document: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block on its own, against a server with the symbols of the demo."""
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(document)
    assert blocks
    for block in blocks:
        exec(compile(block.replace(URL_DEFAULT, url), document, "exec"), {})


def test_tutorial_goes_from_a_csv_to_a_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The day files that it writes are those that it says, and are served."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    show, append = blocks_of("docs/first-chart.md")
    text = (REPOSITORY / "docs/first-chart.md").read_text("utf-8")
    [import_line] = re.findall(r"^    \.venv/bin/zerocopy (import .*)$", text, re.MULTILINE)
    (tmp_path / "trades.csv").write_text(
        "time,price,size,side\n1735689599,2.5,1,0\n1735689600,3.5,2,1\n1735689600,3.25,2,1\n"
    )
    subprocess.run([*ZEROCOPY, *shlex.split(import_line)], check=True, stdout=subprocess.DEVNULL)
    folder = tmp_path / "mydata/coinbase/ACME/TRADES"
    assert (folder / "price.31.12.24.bin").stat().st_size == 4
    assert (folder / "price.01.01.25.bin").stat().st_size == 8
    columns = {path.name.partition(".")[0] for path in folder.iterdir() if path.suffix == ".bin"}
    assert all(f'"{name}": ' in append for name in columns)
    with RunningServer(tmp_path / "mydata") as server:
        for block, records in ((show, 3), (append, None), (show, 6)):
            here = block.replace("http://127.0.0.1:8081", f"http://127.0.0.1:{server.port}")
            exec(compile(here, "docs/first-chart.md", "exec"), {})
            assert records is None or f"shape: ({records}, 3)" in capsys.readouterr().out


def notebook_tool() -> ModuleType:
    """docs/notebook.py, which is no package's."""
    spec = importlib.util.spec_from_file_location("notebook", REPOSITORY / "docs/notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notebook_runs_and_has_its_outputs_stored(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell, against another server than the one whose outputs it shows."""
    monkeypatch.setenv("ZEROCOPY_URL", url)
    tool = notebook_tool()
    stored: dict[str, Any] = json.loads(tool.NOTEBOOK.read_text("utf-8"))
    made = tool.run(stored)
    for before, after in zip(stored["cells"], made["cells"], strict=True):
        if before["cell_type"] == "code":
            kinds = [
                [output["output_type"] for output in cell["outputs"]] for cell in (before, after)
            ]
            assert "error" not in kinds[1], after["outputs"]
            assert kinds[0] == kinds[1], "run docs/notebook.py against the demo"
            assert before["execution_count"] == after["execution_count"]

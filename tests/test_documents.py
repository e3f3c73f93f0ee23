"""The Python of the documents runs as it stands: README.md, docs/ and the notebook."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from docs import notebook
from tests.command_line import environment
from tests.faults.client import poll
from tests.ports import accepts, free_port
from tests.server import ForkedServer
from zerocopy.commands.client.asking import URL_DEFAULT
from zerocopy.commands.development.sample_data import GenerateSpec, date_of, generate

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parent.parent
FIRST_DAY = 20_000
CURL = shutil.which("curl")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of what the demo has."""
    root = tmp_path_factory.mktemp("data")
    spec = GenerateSpec(
        root=str(root),
        first_day=date_of(FIRST_DAY),
        symbols=("BTC-USD", "ETH-USD"),
        days=2,
        records_per_day=5_000,
    )
    generate(spec)
    return root


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    """A server over it."""
    with ForkedServer(root) as server:
        yield f"http://127.0.0.1:{server.port}"


def blocks_of(document: str, language: str = "python") -> list[str]:
    """The blocks of code of a document, in order."""
    text = (REPOSITORY / document).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


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


def test_tutorial_goes_from_a_csv_to_a_frame_that_grows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The day files that it writes are those that it says, are served, and are appended to."""
    (show,) = blocks_of("docs/first-chart.md")
    write, append = blocks_of("docs/first-chart.md", "sh")
    (tmp_path / "trades.csv").write_text(
        "time,price,size,side\n1735689599,2.5,1,0\n1735689600,3.5,2,1\n1735689600,3.25,2,1\n"
    )
    assert "2 days" in in_shell(write, tmp_path)
    folder = tmp_path / "mydata/coinbase/ACME/TRADES"
    assert (folder / "price.31.12.24.bin").stat().st_size == 4
    assert (folder / "price.01.01.25.bin").stat().st_size == 8
    with ForkedServer(tmp_path / "mydata") as server:
        shown = show.replace("http://127.0.0.1:8081", f"http://127.0.0.1:{server.port}")
        for records in (3, 6):
            exec(compile(shown, "docs/first-chart.md", "exec"), {})
            assert f"shape: ({records}, 3)" in capsys.readouterr().out
            if records == 3:
                in_shell(append.replace("sleep 1", ":"), tmp_path)


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_five_commands_make_a_key_and_revoke_it(root: Path, tmp_path: Path) -> None:
    """As docs/access.md has them: the key sees what it is for, and nothing once it is revoked."""
    [block] = blocks_of("docs/access.md", "sh")
    add, serve, ask, show, revoke = block.splitlines()
    key = in_shell(add, tmp_path).split()[-1]
    with serving(serve, root, tmp_path) as port:
        asked = ask.replace("zc_…", key).replace("8081", str(port))
        assert json.loads(in_shell(asked, tmp_path))["symbols"] == ["BTC-USD"]
        assert "BTC-*" in in_shell(show, tmp_path)
        in_shell(revoke, tmp_path)
        poll(lambda: '"status":401' in in_shell(asked, tmp_path), "the key is refused")


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_a_program_signs_tokens_of_its_own(root: Path, tmp_path: Path) -> None:
    """As docs/tokens.md has it; an earlier token holds beside a later one."""
    pytest.importorskip("joserfc", reason="the extra auth is not installed")
    [program] = blocks_of("docs/tokens.md")
    [block] = blocks_of("docs/tokens.md", "sh")
    (tmp_path / "sign.py").write_text(program, "utf-8")
    sign, serve, ask = block.replace("\\\n", "").splitlines()
    tokens = [in_shell(f"{sign}; echo $TOKEN", tmp_path).strip() for _ in range(2)]
    with serving(serve, root, tmp_path) as port:
        for token in tokens:
            asked = ask.replace("$TOKEN", token).replace("8081", str(port))
            assert "BTC-USD" in json.loads(in_shell(asked, tmp_path))["symbols"]


@contextlib.contextmanager
def serving(line: str, root: Path, folder: Path) -> Iterator[int]:
    """The port of the server that a line starts, with data where the demo has them."""
    (folder / "var").mkdir()
    (folder / "var/demo").symlink_to(root)
    port = free_port()
    started = line.removesuffix("&").replace("8081", str(port))
    command = ["bash", "-c", here(started, before="exec ")]
    environ = environment(PYTHONPATH=str(REPOSITORY), METRICS_PORT="0")
    with subprocess.Popen(command, cwd=folder, env=environ) as process:
        try:
            poll(lambda: accepts(port) or process.poll() is not None, "the server listens")
            assert process.poll() is None
            yield port
        finally:
            process.terminate()


def here(block: str, *, before: str = "") -> str:
    """The commands, of which those of `.venv` are this Python's."""
    commands = {"python": sys.executable, "zerocopy": f"{before}{sys.executable} -m zerocopy"}
    return re.sub(r"\.venv/bin/(python|zerocopy)\b", lambda found: commands[found[1]], block)


def in_shell(block: str, folder: Path) -> str:
    """What the commands print, of which none fails."""
    command = ["bash", "-e", "-o", "pipefail", "-c", here(block)]
    environ = environment(PYTHONPATH=str(REPOSITORY))
    done = subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


def test_notebook_runs_and_has_its_outputs_stored(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell, against another server than the one whose outputs it shows."""
    monkeypatch.setenv("ZEROCOPY_URL", url)
    stored: dict[str, Any] = json.loads(notebook.NOTEBOOK.read_text("utf-8"))
    made = notebook.run(stored)
    for before, after in zip(stored["cells"], made["cells"], strict=True):
        if before["cell_type"] == "code":
            kinds = [
                [output["output_type"] for output in cell["outputs"]] for cell in (before, after)
            ]
            assert "error" not in kinds[1], after["outputs"]
            assert kinds[0] == kinds[1], "run python -m docs.notebook against the demo"
            assert before["execution_count"] == after["execution_count"]

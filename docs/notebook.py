# ruff: noqa: INP001 - a script beside the documents, not a package
"""Runs docs/first-steps.ipynb and stores what its cells say.

    ZEROCOPY_URL=http://127.0.0.1:8080 .venv/bin/python -m docs.notebook

`tests/test_documents.py` runs the same cells against a server of its own.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import traceback
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).with_name("first-steps.ipynb")


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """The same notebook with the outputs of its cells; one that fails has its traceback."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            outputs = _outputs("".join(cell["source"]), names, count)
            cells.append({**cell, "execution_count": count, "outputs": outputs})
        else:
            cells.append(cell)
    return {**notebook, "cells": cells}


def _outputs(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """What a cell prints, and the value of its last line, as Jupyter would store them."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    outputs: list[dict[str, Any]] = []
    printed = io.StringIO()
    value = None
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, "cell", "exec"), names)  # noqa: S102 - our own notebook
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307
    except Exception as error:  # noqa: BLE001 - stored, and seen by the test
        lines = traceback.format_exc().splitlines()
        told = {"ename": type(error).__name__, "evalue": str(error), "traceback": lines}
        outputs.append({"output_type": "error", **told})
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.insert(0, {"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        about = {"execution_count": count, "metadata": {}}
        outputs.append({"output_type": "execute_result", "data": data, **about})
    return outputs


def main() -> None:
    """Run the notebook against `$ZEROCOPY_URL`, and write it."""
    notebook = run(json.loads(NOTEBOOK.read_text("utf-8")))
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()

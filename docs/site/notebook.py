"""Run a notebook in this process and write it as Markdown, with results and pictures."""

import ast
import base64
import io
import json
from pathlib import Path
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """One cell and what came of it.

    Args:
        kind: ``"markdown"`` or ``"code"``.
        source: its text.
        result: the text of its last expression; empty where there is none.
        pictures: PNG files in base64.
    """

    kind: str
    source: str
    result: str = ""
    pictures: tuple[str, ...] = ()


def run(path: Path) -> list[Cell]:
    """Run the code cells in order, in one namespace, and return all cells.

    Raises:
        Exception: whatever a cell raises.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            value = _value_of(source, names)
            shown = "" if value is None or source.endswith(";") else repr(value)
            cells.append(Cell("code", source, shown, _pictures()))
        else:
            cells.append(Cell(cell["cell_type"], source))
    return cells


def as_markdown(path: Path) -> str:
    """Return the notebook as one page."""
    parts = []
    for cell in run(path):
        parts.append(cell.source if cell.kind == "markdown" else f"```python\n{cell.source}\n```")
        if cell.result:
            parts.append(f"```text\n{cell.result}\n```")
        parts += [f"![Picture](data:image/png;base64,{picture})" for picture in cell.pictures]
    return "\n\n".join(parts) + f"\n\n[This page as a notebook]({path.name})\n"


def _value_of(source: str, names: dict[str, Any]) -> Any:
    """Run one cell and return the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


def _pictures() -> tuple[str, ...]:
    """Return the open figures, and close them."""
    import matplotlib.pyplot as plt

    pictures = []
    for number in plt.get_fignums():
        data = io.BytesIO()
        plt.figure(number).savefig(data, format="png", dpi=120, bbox_inches="tight")
        pictures.append(base64.b64encode(data.getvalue()).decode())
    plt.close("all")
    return tuple(pictures)

"""The examples in the docstrings run and give what they say."""

import ast
import doctest
import importlib
import pkgutil
import re
import runpy
from pathlib import Path

import pytest
import torch

import pyfront

DOCS = Path(__file__).parents[1] / "docs"
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(pyfront.__path__, "pyfront.")
    if name not in ("pyfront.backend._core", "pyfront.__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "pyfront").partition(".")[0] == "pyfront":
            raise
        pytest.skip(f"{error.name} is not installed")
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0


def test_the_methods_have_examples():
    names = [name for name in MODULES if name.startswith("pyfront.methods.") and "._" not in name]
    assert len(names) >= 7
    for name in names:
        module = importlib.import_module(name)
        assert sum(len(test.examples) for test in doctest.DocTestFinder().find(module)) > 0


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)


def test_the_readme_trains(capsys):
    (block,) = python_blocks(DOCS.parent / "README.md")
    model = torch.nn.Linear(4, 2)
    x, targets = torch.randn(64, 4), torch.randn(64, 2)
    names = {
        "model": Columns(model),
        "loader": [(x[k : k + 16], targets[k : k + 16].T) for k in range(0, 64, 16)],
        "loss_fn": torch.nn.functional.mse_loss,
    }
    before = model.weight.detach().clone()
    exec(compile(block, "README.md", "exec"), names)
    assert "tensor([" in capsys.readouterr().out and not torch.equal(before, model.weight)


class Columns(torch.nn.Module):
    """One output per task."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).T


def test_the_page_on_loops_runs():
    names = {"__name__": "loop"}
    for block in python_blocks(DOCS / "loop.md"):
        exec(compile(block, "loop.md", "exec"), names)
    assert names["opt"].report.status == "ok"


def test_the_notebook_ends_where_it_says(monkeypatch):
    pytest.importorskip("matplotlib").use("agg")
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    cells = importlib.import_module("notebook").run(DOCS / "first_front.ipynb")
    (worst,) = [ast.literal_eval(c.result) for c in cells if c.source.endswith("\nworst")]
    assert worst["EPO"] < 1.1 and worst["feedback"] < 1.3 and worst["linear"] > 100
    assert sum(len(cell.pictures) for cell in cells) == 1


def test_contributing_walks_through_a_method_and_an_engine():
    blocks = python_blocks(DOCS.parent / "CONTRIBUTING.md")
    assert len(blocks) == 2
    names = {"pyfront": pyfront, "__name__": "contributing"}
    for block in blocks:
        exec(compile(block, "CONTRIBUTING.md", "exec"), names)


PAGES = [page for page in sorted(DOCS.glob("*.md")) if ">>>" in page.read_text("utf-8")]


def test_the_page_on_preferences_has_examples():
    assert DOCS / "preferences.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_run(page):
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted > 0 and result.failed == 0


def test_the_pictures_of_the_pages_can_be_drawn_again(tmp_path):
    pytest.importorskip("matplotlib")
    runpy.run_path(str(DOCS / "site" / "pictures.py"))["main"](tmp_path)
    assert (tmp_path / "preferences.png").stat().st_size > 50_000

"""The examples in the docstrings run and give what they say."""

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


def test_contributing_walks_through_a_method_and_an_engine():
    text = (DOCS.parent / "CONTRIBUTING.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
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
    runpy.run_path(str(DOCS / "plots.py"))["main"](tmp_path)
    assert (tmp_path / "preferences.png").stat().st_size > 50_000

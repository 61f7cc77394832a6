"""Every public name has a docstring with an example, and a place in the site."""

import importlib
import inspect
import re
from pathlib import Path

MODULES = [
    "pyfront",
    *(f"pyfront.{name}" for name in ("control", "datasets", "functional", "plots", "preferences")),
    "pyfront.problems",
]
PAGES = Path(__file__).parents[1] / "docs" / "api"


def exports():
    """Each exported object that is no module, once, by the shortest of its names."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            if not inspect.ismodule(value):
                found.setdefault(id(value), (f"{name}.{public}", value))
    return dict(found.values())


def test_every_public_name_is_on_a_page_of_the_reference():
    shown = set()
    for page in PAGES.glob("*.md"):
        shown.update(re.findall(r"^::: (\S+)$", page.read_text("utf-8"), flags=re.MULTILINE))
    assert set(exports()) - shown == set()
    for name in shown:  # and what a page names exists
        module, _, public = name.rpartition(".")
        if module != "pyfront.control.trl":  # which needs transformers
            assert hasattr(importlib.import_module(module), public)

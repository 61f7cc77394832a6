"""Every public name has a docstring with an example, and a place in the site."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pyfront

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


def test_every_page_is_in_the_navigation():
    docs = PAGES.parent
    navigation = (docs.parent / "mkdocs.yml").read_text("utf-8").partition("nav:")[2]
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")}
    assert pages == {page for page in pages if f" {page}\n" in navigation}


def test_every_link_of_a_page_leads_to_a_file_that_the_site_has():
    root = PAGES.parents[1]
    for page in PAGES.parent.rglob("*.md"):
        for link in re.findall(r"\]\(([\w./-]+\.\w+)(?:#[\w-]+)?\)", page.read_text("utf-8")):
            target = (page.parent / link).resolve()
            notebook = target.with_suffix(".ipynb")
            if target.is_relative_to(PAGES.parent):
                assert target.exists() or notebook.exists(), (page.name, link)
            else:
                shown = re.fullmatch(r"(examples|bench)/.*\.(py|md)", str(target.relative_to(root)))
                assert shown, (page.name, link)
                assert target.exists() or not (root / "bench").exists(), (page.name, link)


def listed():
    """The names that pages of the reference list under a class; those of all methods' base."""
    found = set()
    for page in PAGES.glob("*.md"):
        for names in re.findall(r"members:\s+\[(.*?)\]", page.read_text("utf-8"), re.DOTALL):
            found.update(re.findall(r"\w+", names))
    return found


def members(cls):
    """Functions and properties by name, from the class of ours that introduces each.

    What lies between a method and the code around it is for neither users nor authors of methods,
    and is no part of the reference.
    """
    found, shown = {}, listed()
    for owner in cls.__mro__:  # those that come last win: an override is documented at its origin
        for name, value in vars(owner).items():
            value = getattr(value, "__func__", value)
            ours = owner.__module__.startswith("pyfront") and not name.startswith("_")
            common = owner.__module__.startswith("pyfront.optimizer")
            if ours and (inspect.isfunction(value) or isinstance(value, property)):
                path = f"{owner.__module__}.{owner.__qualname__}.{name}"
                found[name] = (path, value) if not common or name in shown else None
    return dict(entry for entry in found.values() if entry is not None)


def documented():
    """Each public name with what holds its docstring."""
    found = {}
    for name, value in exports().items():
        found[name] = value
        if inspect.isclass(value):
            found |= members(value)
    return {
        name: value
        for name, value in found.items()
        if callable(value) or isinstance(value, property)
    }


def test_every_public_name_has_an_example_that_runs():
    names = documented()
    assert len(names) > 140
    examples = {
        name: doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")
        for name, value in names.items()
    }
    run = {n: [e for e in found if doctest.SKIP not in e.options] for n, found in examples.items()}
    assert [name for name, found in run.items() if not found] == []


def parameters(value):
    """The parameters that a caller gives, without those of the methods' common options."""
    if inspect.isclass(value) and issubclass(value, (tuple, Exception)):
        return []
    names = inspect.signature(value).parameters
    refused = ("preference",) if getattr(value, "preference_domain", "") == "none" else ()
    left_out = (*refused, "self", "cls", "common", "options", "more", "args", "kwargs")
    return [name for name in names if name not in left_out]


def test_every_public_docstring_names_its_arguments():
    silent = []
    for name, value in documented().items():
        if callable(value) and (given := parameters(value)):
            text = inspect.getdoc(value) or ""
            silent += [f"{name}({p})" for p in given if not re.search(rf"\b{p}\b", text)]
    assert silent == []


def test_every_method_names_its_source():
    base = pyfront.MultiTaskOptimizer
    methods = [v for v in exports().values() if inspect.isclass(v) and issubclass(v, base)]
    assert len(methods) > 20
    silent = [m.__name__ for m in methods if "Source: " not in inspect.getdoc(m)]
    assert silent == ["MultiTaskOptimizer"]

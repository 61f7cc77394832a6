"""The examples in the docstrings run and give what they say."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import pyfront

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(pyfront.__path__, "pyfront.")
    if name not in ("pyfront._core", "pyfront.__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0


def test_the_methods_have_examples():
    names = [name for name in MODULES if name.startswith("pyfront.methods.")]
    assert len(names) >= 7
    for name in names:
        module = importlib.import_module(name)
        assert sum(len(test.examples) for test in doctest.DocTestFinder().find(module)) > 0

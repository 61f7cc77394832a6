"""Modules of `pyfront` that are imported when they are first used."""

import subprocess
import sys

import pytest

import pyfront

CODE = """
import sys, pyfront
lazy = {"pyfront.plots", "pyfront.datasets"}
assert not lazy & set(sys.modules)
pyfront.plots.plot_front, pyfront.plots.save_page, pyfront.datasets.multi_digits
assert lazy < set(sys.modules) and "matplotlib" not in sys.modules
"""


def test_plots_and_datasets_need_no_import_of_their_own():
    subprocess.run([sys.executable, "-c", CODE], check=True)
    assert {"plots", "datasets"} < set(pyfront.__all__)
    assert pyfront.sweep is pyfront.sweeps.sweep and callable(pyfront.sweep)


def test_other_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'pyfront' has no attribute 'plot'"):
        _ = pyfront.plot

"""What is public is imported when it is first used."""

import subprocess
import sys

import pytest

import pyfront

CODE = """
import sys, pyfront
here = {name for name in sys.modules if name.startswith("pyfront.")}
assert not any(name.split(".")[1] in ("methods", "optimizer", "sweeps", "plots") for name in here)
pyfront.plots.plot_front, pyfront.plots.save_page, pyfront.datasets.multi_digits
assert "pyfront.plots" in sys.modules and "matplotlib" not in sys.modules
pyfront.EPO
assert "pyfront.sweeps" not in sys.modules and "pyfront.hypernetwork" not in sys.modules
from pyfront import *
assert sweep is pyfront.sweep and "pyfront.sweeps" in sys.modules
"""


def test_importing_the_package_imports_no_method():
    subprocess.run([sys.executable, "-c", CODE], check=True)


def test_every_public_name_is_there():
    for name in pyfront.__all__:
        assert getattr(pyfront, name) is getattr(pyfront, name)
    assert set(pyfront.__all__) < set(dir(pyfront))
    assert pyfront.sweep is pyfront.sweeps.sweep and callable(pyfront.sweep)


def test_other_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'pyfront' has no attribute 'plot'"):
        _ = pyfront.plot
    with pytest.raises(ImportError, match="cannot import name 'Epo'"):
        from pyfront import Epo  # noqa: F401

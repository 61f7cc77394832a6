"""What a user meets first: importing from the wrong folder, the version, the console script."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy
import pytest
import torch

import pyfront
from pyfront._utils.extras import DISTRIBUTION
from pyfront.cli.main import main


@pytest.fixture
def source(tmp_path):
    """A clone's folder `pyfront`, without a core."""
    package = Path(pyfront.__file__).parent
    ignored = shutil.ignore_patterns("_core*.so", "__pycache__")
    shutil.copytree(package, tmp_path / "clone" / "pyfront", ignore=ignored)
    return tmp_path / "clone"


def python(folder, statement):
    # without `site`, so that no finder of an editable install comes before the working directory
    paths = {Path(module.__file__).parents[1] for module in (numpy, torch)}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run(
        [sys.executable, "-S", "-c", statement],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("module", ["pyfront", "pyfront.functional", "pyfront.methods.epo"])
def test_source_without_a_core_says_what_to_do(source, module):
    done = python(source, f"import {module}")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: pyfront in {source} is source, without a core compiled")
    assert f"pip install --editable {source}" in last
    assert "start Python in a folder that does not hold this source" in last
    assert "circular" not in done.stderr


def test_a_core_that_cannot_be_loaded_raises_its_own_error(source):
    (source / "pyfront" / "backend" / "_core.so").write_bytes(b"not a library")
    done = python(source, "import pyfront")
    assert done.returncode == 1
    assert "_core.so" in done.stderr.splitlines()[-1]


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"pyfront {pyfront.__version__}\n"
    assert metadata.version(DISTRIBUTION) == pyfront.__version__


def test_version_and_name_stand_in_one_place():
    source = Path(__file__).parents[1] / "pyproject.toml"
    if not source.exists():
        pytest.skip("the tests are away from the source")
    project = tomllib.loads(source.read_text("utf-8"))["project"]
    assert project["name"] == DISTRIBUTION
    assert project["version"] == pyfront.__version__
    changes = (source.parent / "CHANGELOG.md").read_text("utf-8")
    assert changes.startswith("# Changelog\n\n## Unreleased\n")


def test_the_console_script_is_the_command_line():
    (script,) = metadata.entry_points(group="console_scripts", name="pyfront")
    command = f"import sys; sys.argv[1:] = ['--version']; from {script.module} import {script.attr}"
    ran = subprocess.run(
        [sys.executable, "-c", f"{command}; {script.attr}()"],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stdout) == (0, f"pyfront {pyfront.__version__}\n")


def test_import_and_a_step_are_clean_in_development_mode():
    statement = "import torch, pyfront; x = torch.nn.Parameter(torch.ones(2)); "
    statement += "pyfront.EPO(torch.optim.Adam([x]), [0.7, 0.3]).step([x[0] ** 2, x[1] ** 2]); "
    statement += "pyfront.datasets, pyfront.__version__"
    alone = "import torch; x = torch.nn.Parameter(torch.ones(2)); (x**2).sum().backward(); "
    alone += "torch.optim.Adam([x]).step()"
    if in_development_mode(alone) != (0, ""):
        pytest.skip(f"torch {torch.__version__} alone is not clean in development mode")
    assert in_development_mode(statement) == (0, "")


def in_development_mode(statement):
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", statement]
    ran = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)
    return ran.returncode, ran.stderr

"""One thread, and what was measured with what, for every benchmark."""

import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch

from pyfront._utils.extras import DISTRIBUTION


def version(distribution):
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


@pytest.fixture(scope="session")
def commit():
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


@pytest.fixture(autouse=True)
def record(request, commit):
    torch.set_num_threads(1)
    if "benchmark" in request.fixturenames:
        names = (DISTRIBUTION, "torch", "numpy", *getattr(request.module, "COMPETITORS", ()))
        request.getfixturevalue("benchmark").extra_info.update(
            commit=commit, threads=1, versions={name: version(name) for name in names}
        )

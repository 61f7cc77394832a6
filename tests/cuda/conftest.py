"""Fixtures of the tests of the CUDA core: the order of emulated lanes, and where models live."""

import device_cases
import emulated
import pytest
import torch


@pytest.fixture(params=["forwards", "backwards"])
def lanes(harness, request):
    """The kernels with the lanes of a thread block in this order."""
    harness.run_lanes_backwards(int(request.param == "backwards"))
    harness.set_device(1, 1, emulated.SHARED_BYTES)
    yield harness
    harness.run_lanes_backwards(0)
    harness.set_device(1, 1, emulated.SHARED_BYTES)


@pytest.fixture(params=["emulated", "cuda"])
def place(request, monkeypatch):
    """Where the models live: on a GPU, or on a CPU that is taken for one."""
    if request.param == "cuda":
        return request.getfixturevalue("cuda")
    device_cases.play(monkeypatch)
    return torch.device("cpu")

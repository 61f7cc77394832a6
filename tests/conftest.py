"""Fixtures shared by all tests."""

import emulated
import pytest
import torch
from hypothesis import settings

import pyfront

# no test asserts a time: a busy machine must not fail one
settings.register_profile("pyfront", deadline=None)
settings.load_profile("pyfront")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def cuda():
    """A CUDA device that the core can use; skips the test, by the reason, where there is none."""
    found = pyfront.cuda_available()
    if not found:
        pytest.skip(f"CUDA: {found.reason}")
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(scope="session")
def harness():
    """The CUDA kernels and their plans, compiled for the CPU."""
    if why_not := emulated.obstacle():
        pytest.skip(why_not)
    return emulated.kernels()


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Each device that the core computes on."""
    return request.getfixturevalue("cuda") if request.param == "cuda" else torch.device("cpu")


@pytest.fixture
def two_heads():
    """A small network with a shared trunk and a head a task."""
    return TwoHeads()


class TwoHeads(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.Linear(5, 7)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(7, 3), torch.nn.Linear(7, 2)])

    def forward(self, x):
        z = torch.tanh(self.trunk(x))
        return [head(z) for head in self.heads]

    def losses(self, x):
        return [(y**2).mean() + 0.1 * (j + 1) for j, y in enumerate(self(x))]

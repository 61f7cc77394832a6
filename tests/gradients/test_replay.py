"""A closure that is called again draws the same random numbers, and nobody else notices."""

import pytest
import torch
from torch import nn

from pyfront.gradients.products import gramian_product
from pyfront.gradients.replay import Replay


@pytest.mark.parametrize("products", ["forward", "difference"])
def test_random_numbers_go_on_as_if_the_closure_had_run_once(products):
    x = nn.Parameter(torch.ones(50))
    replay = Replay(lambda: [nn.functional.dropout(x, 0.5).sum(), x.square().sum()])
    torch.manual_seed(3)
    losses = replay.first()
    expected = torch.get_rng_state()
    gramian_product(losses, [x], [1.0, 1.0], products=products, replay=replay)
    assert torch.equal(torch.get_rng_state(), expected)


class Generators:
    """Two CUDA devices' generators as the host sees them: which are read, and which put back."""

    def __init__(self, monkeypatch, in_use):
        self.states, self.in_use = [torch.tensor([3]), torch.tensor([8])], in_use
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: self.in_use)
        monkeypatch.setattr(torch.cuda, "get_rng_state_all", self.get)
        monkeypatch.setattr(torch.cuda, "set_rng_state_all", self.set)

    def get(self):
        assert self.in_use  # asking would start CUDA
        return [state.clone() for state in self.states]

    def set(self, states):
        for state, value in zip(self.states, states, strict=False):
            state.copy_(value)

    def draw(self, device):
        self.in_use = True
        self.states[device] += 1
        return self.states[device].item()


@pytest.mark.parametrize("device", [0, 1])
def test_generators_of_cuda_devices_are_replayed_and_go_on(monkeypatch, device):
    generators, drawn = Generators(monkeypatch, in_use=True), []
    replay = Replay(lambda: drawn.append(generators.draw(device)) or [torch.ones(())])
    replay.first()
    expected = generators.get()
    generators.draw(0)  # what the program draws in between
    replay.again()
    assert drawn[0] == drawn[1]
    assert [s.item() for s in generators.states] == [expected[0].item() + 1, expected[1].item()]


def test_cuda_is_not_started_by_a_replay_and_may_be_by_the_closure(monkeypatch):
    generators = Generators(monkeypatch, in_use=False)
    replay = Replay(lambda: [torch.ones(())])
    replay.first()
    replay.again()
    assert not generators.in_use
    replay = Replay(lambda: [torch.tensor(float(generators.draw(1)))])
    replay.first()
    replay.again()
    assert generators.states[1].item() == 9

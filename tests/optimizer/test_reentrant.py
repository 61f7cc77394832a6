"""Reentrant checkpoints of activations that appear during training, and what cannot have them."""

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import pyfront
from pyfront.gradients.engines import refuse_reentrant_checkpoint

X = torch.linspace(-1, 1, 40).reshape(8, 5)


class Net(torch.nn.Module):
    """A trunk, checkpointed or not, and two heads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh())
        self.heads = torch.nn.ModuleList(torch.nn.Linear(4, 1) for _ in range(2))
        self.reentrant = None

    def features(self):
        x = X.clone().requires_grad_()
        if self.reentrant is None:
            return self.trunk(x)
        return checkpoint(self.trunk, x, use_reentrant=self.reentrant)

    def losses(self, z=None):
        z = self.features() if z is None else z
        return [((head(z) - k) ** 2).mean() for k, head in enumerate(self.heads)]


METHODS = {
    "MGDA": pyfront.MGDA,
    "EPO": lambda base: pyfront.EPO(base, [0.7, 0.3]),
    "linear": lambda base: pyfront.LinearScalarization(base, [0.7, 0.3]),
    "feedback": lambda base: pyfront.PreferenceFeedback(base, [0.7, 0.3]),
    "every": lambda base: pyfront.MGDA(base, every=2),
    "difference": lambda base: pyfront.SingleLoopMGDA(base, products="difference"),
}


def trained(make, *, reentrant, switched_at, thawed_at):
    net = Net()
    opt = make(torch.optim.SGD(net.parameters(), lr=0.1))
    net.trunk.requires_grad_(thawed_at == 0)
    for step in range(6):
        if step == switched_at:
            net.reentrant = reentrant
        if step == thawed_at:
            net.trunk.requires_grad_(True)
        opt.step(net.losses)
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("switched_at", "thawed_at"), [(0, 0), (3, 0), (3, 3), (3, 4)])
def test_a_part_that_is_checkpointed_late_is_trained(name, switched_at, thawed_at):
    """The reference has no checkpoint; a frozen trunk is checkpointed as well, (3, 4)."""
    plan = {"switched_at": switched_at, "thawed_at": thawed_at}
    expected = trained(METHODS[name], reentrant=None, **plan)
    tolerance = {"rtol": 1e-2, "atol": 1e-3} if name == "difference" else {}
    for reentrant in (True, False):
        found = trained(METHODS[name], reentrant=reentrant, **plan)
        torch.testing.assert_close(found, expected, **tolerance)


def refused(call, net, *words):
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError) as caught:
        call()
    for word in (*words, "use_reentrant=False"):
        assert word in str(caught.value)
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", ["MGDA", "linear"])
def test_what_cannot_have_one_is_named(name):
    net = Net()
    opt = METHODS[name](torch.optim.SGD(net.parameters(), lr=0.1))
    opt.step(net.losses())
    opt.zero_grad()
    net.reentrant = True
    opt.engine = "grad"
    refused(lambda: opt.step(net.losses()), net, "engine='grad'", "engine='auto'")
    for engine in ("auto", "steal"):
        opt.engine = engine
        z = net.features()
        refused(lambda z=z: opt.step(net.losses(z), features=z), net, "features: ")
    net.reentrant = False  # the advice
    z = net.features()
    opt.engine = "auto"
    opt.step(net.losses(z), features=z)


def test_the_upper_bound_is_named():
    net = Net()
    opt = pyfront.MGDA(torch.optim.SGD(net.parameters(), lr=0.1), upper_bound=True)
    net.reentrant = True
    z = net.features()
    refused(lambda: opt.step(net.losses(z), features=z), net, "upper_bound and features: ")


def test_a_second_batch_is_looked_at_too():
    net = Net()
    opt = pyfront.SingleLoopMGDA(torch.optim.SGD(net.parameters(), lr=0.1), engine="grad")
    first = net.losses()
    net.reentrant = True
    refused(lambda: opt.step(first, second=net.losses()), net, "engine='grad'")


def test_a_place_without_a_right_engine_can_refuse():
    net = Net()
    refuse_reentrant_checkpoint(net.losses(), "DistributedDataParallel")
    net.reentrant = True
    with pytest.raises(ValueError, match="DistributedDataParallel: the losses hold a reentrant"):
        refuse_reentrant_checkpoint(net.losses(), "DistributedDataParallel")

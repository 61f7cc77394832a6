"""A main network with a layer whose weight a hypernetwork keeps in factors."""

import torch
from torch import nn

import pyfront


class Wide(nn.Module):
    """A layer of 2 ** 18 entries whose weight is also read in other ways."""

    def __init__(self, read=None):
        super().__init__()
        self.first, self.last = nn.Linear(512, 520), nn.Linear(520, 3)
        self.read = read

    def forward(self, x):
        return self.last(torch.tanh(self.first(x) if self.read is None else self.read(self, x)))


def network(read=None, **options):
    torch.manual_seed(0)
    return pyfront.HyperNetwork(Wide(read).double(), 2, **options)


X = torch.randn(5, 512, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
P = [0.3, 0.7]


def gradients(net, output):
    return torch.autograd.grad(output.square().sum(), list(net.parameters()))


def functional(net, x):
    """The same network with whole weights, by their graph to the parameters of ``net``."""
    return torch.func.functional_call(net.model, net.parameters_at(P), (x,))

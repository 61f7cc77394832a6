"""Networks on which products with the Gramian are compared with the explicit Jacobian."""

import torch
from gradient_cases import reference
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from pyfront import HyperNetwork


class Residual(nn.Module):
    """Convolutions, batch and group norms, pooling, a skip connection, two heads."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU())
        self.heads = nn.ModuleList([nn.Linear(16, 3) for _ in range(3)])

    def losses(self, x):
        z = self.stem(x)
        z = nn.functional.max_pool2d(z + self.body(z), 4).flatten(1)
        target = torch.arange(len(x)) % 3
        return [nn.functional.cross_entropy(head(z), target) for head in self.heads]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.cell = nn.LSTM(6, 5, batch_first=True)
        self.mkldnn = False  # its fused cell has no forward mode
        self.head = nn.Linear(5, 2)

    def losses(self, tokens):
        with torch.backends.mkldnn.flags(enabled=self.mkldnn):
            y = self.head(self.cell(self.table(tokens))[0][:, -1])
        return [y[:, 0].square().mean(), nn.functional.softplus(y[:, 1]).mean()]


class Tied(nn.Module):
    """One weight that embeds and decodes, and one of unit spectral norm."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.middle = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
        self.middle.eval()  # in training every call takes a step of the power iteration

    def losses(self, tokens):
        y = torch.tanh(self.middle(self.table(tokens))) @ self.table.weight.T
        return [nn.functional.cross_entropy(y.flatten(0, 1), tokens.flatten()), y.square().mean()]


class Generated(nn.Module):
    """A network whose weights another one generates."""

    def __init__(self):
        super().__init__()
        main = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
        self.net = HyperNetwork(main, 2, plain=True)

    def losses(self, x):
        y = self.net(x, preference=[0.3, 0.7])
        return [y[:, 0].square().mean(), nn.functional.softplus(y[:, 1]).mean()]


class Attention(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout, batch_first=True)
        self.head = nn.Linear(8, 2)

    def losses(self, x):
        with sdpa_kernel(SDPBackend.MATH):
            y = self.head(self.layer(x)).mean(dim=1)
        return [y[:, 0].square().mean(), y[:, 1].exp().mean()]


def checkpointed(model, x):
    z = checkpoint(model.trunk, x, use_reentrant=False).tanh()
    return [head(z).square().mean() for head in model.heads]


def models(two_heads):
    flat = torch.linspace(-1, 1, 30).reshape(6, 5)
    images = torch.randn(5, 1, 8, 8)
    tokens = torch.arange(12).reshape(3, 4) % 11
    compiled = torch.randn(3, 4, 8)
    return {
        "two_heads": (two_heads, lambda: two_heads.losses(flat)),
        "residual": ((net := Residual()), lambda: net.losses(images)),
        "recurrent": ((rnn := Recurrent()), lambda: rnn.losses(tokens)),
        "attention": ((attention := Attention()), lambda: attention.losses(compiled)),
        "dropout": ((noisy := Attention(0.3)), lambda: noisy.losses(compiled)),
        "checkpoint": (two_heads, lambda: checkpointed(two_heads, flat)),
        "tied": ((tied := Tied()), lambda: tied.losses(tokens)),
        "hypernetwork": ((generated := Generated()), lambda: generated.losses(flat)),
        "vector": (two_heads, lambda: torch.stack(two_heads.losses(flat))),
    }


NAMES = [
    "two_heads",
    "residual",
    "recurrent",
    "attention",
    "dropout",
    "checkpoint",
    "tied",
    "hypernetwork",
    "vector",
]


def explicit(losses, params, v):
    jacobian = reference(losses, params)
    return jacobian @ (jacobian.T @ v), jacobian.T @ v

"""Pairs of optimizers for a model with two heads, and steps with them."""

import pytest
import torch

import pyfront

X = torch.linspace(-1, 1, 30).reshape(6, 5)


def matrices(model):
    return [p for p in model.parameters() if p.ndim == 2]


def vectors(model):
    return [p for p in model.parameters() if p.ndim != 2]


def sgd_and_adamw(model):
    return [
        torch.optim.SGD(matrices(model), lr=0.05, momentum=0.9),
        torch.optim.AdamW(vectors(model), lr=0.01),
    ]


def muon_and_adamw(model):
    return [torch.optim.Muon(matrices(model), lr=0.02), torch.optim.AdamW(vectors(model), lr=0.01)]


has_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="this torch has no torch.optim.Muon"
)
PAIRS = [
    pytest.param(sgd_and_adamw, id="SGD, AdamW"),
    pytest.param(muon_and_adamw, id="Muon, AdamW", marks=has_muon),
]
pairs = pytest.mark.parametrize("pair", PAIRS)


def epo(bases):
    return pyfront.EPO(bases, [0.7, 0.3], weight_smoothing=0.5, every=2, task_gradients="own")


def same(model, other):
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def steps(opt, model, count=3):
    for _ in range(count):
        opt.step(model.losses(X))


def pair_of(size):
    return torch.nn.Parameter(torch.ones(size))

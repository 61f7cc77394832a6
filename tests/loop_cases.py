"""A small model and its optimizer, for tests of what a training loop does with them."""

import torch

import pyfront

X = torch.linspace(-1, 1, 24).reshape(6, 4)


def setting(make=lambda base: pyfront.EPO(base, [0.9, 0.1]), base=torch.optim.SGD, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    return model, make(base(model.parameters(), lr=0.1, **options))

"""The loop that every framework is compared with: the same decisions, written out."""

import torch
from two_tasks import PREFERENCE, TwoTasks, losses

import pyfront


def optimizer(model, lr=0.02):
    params = [p for p in model.parameters() if p.requires_grad]
    return pyfront.EPO(torch.optim.Adam(params, lr=lr), PREFERENCE)


def trained(batches, model=None, autocast=None):
    """Make one step per batch; return the model and the weights of every step."""
    model = TwoTasks() if model is None else model
    opt, weights = optimizer(model), []
    for batch in batches:
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            found = losses(model, batch)
        weights.append(opt.step(found).weights)
    return model, torch.stack(weights)


def trained_in_parts(batches, parts):
    """Add the directions of micro-batches, each decided on alone and divided by their number."""
    model = TwoTasks()
    opt = optimizer(model)
    batches = list(batches)
    for start in range(0, len(batches), parts):
        total = None
        for batch in batches[start : start + parts]:
            opt.backward(losses(model, batch))
            found = [p.grad / parts for p in model.parameters()]
            total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
        for p, gradient in zip(model.parameters(), total, strict=True):
            p.grad = gradient
        opt.step()
    return model


def assert_close(model, expected, atol=1e-7):
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=0.0, atol=atol)


def assert_equal(model, expected):
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(p, q)

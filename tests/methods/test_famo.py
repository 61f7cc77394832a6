"""FAMO against its published algorithm."""

import json

import pytest
import torch
from torch.nn import functional

import pyfront


def published_famo(model, losses_of, base, steps, lr, decay):
    """Algorithm 1 with torch's Adam: the losses of the same batch again behind each update."""
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    trainer = torch.optim.Adam([logits], lr=lr, weight_decay=decay)
    weights = []
    for _ in range(steps):
        losses = losses_of() + 1e-8
        z = functional.softmax(logits, 0).detach()
        w = (z / losses).detach() / (z / losses).sum().detach()
        base.zero_grad()
        (w * losses).sum().backward()
        base.step()
        fall = (losses.log() - (losses_of() + 1e-8).log()).detach()
        logits.grad = torch.autograd.grad(functional.softmax(logits, 0) @ fall, logits)[0]
        trainer.step()
        weights.append(w)
    return torch.stack(weights)


def test_famo_on_full_batches_is_the_published_algorithm_with_one_forward_fewer():
    torch.manual_seed(0)
    inputs, targets = (
        torch.randn(40, 4).double(),
        torch.randn(40, 2).double() * torch.tensor([1, 9]),
    )
    models = [torch.nn.Linear(4, 2).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())

    def losses(model):
        return ((model(inputs) - targets) ** 2).mean(dim=0)

    bases = [torch.optim.SGD(model.parameters(), lr=0.3) for model in models]
    expected = published_famo(models[0], lambda: losses(models[0]), bases[0], 60, 0.025, 0.01)
    opt = pyfront.FAMO(bases[1], weight_decay=0.01)
    ours = torch.stack([opt.step(losses(models[1])).weights for _ in range(60)])
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    assert abs(opt.shares[0].item() - 0.5) > 0.01  # it has learnt something
    torch.testing.assert_close(models[1].weight, models[0].weight, rtol=1e-9, atol=1e-12)


def test_famo_makes_one_backward_pass_and_learns_from_steps_alone():
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    opt, calls = pyfront.FAMO(torch.optim.SGD([x], lr=0.1)), []
    x.register_hook(lambda g: calls.append(g))
    report = opt.step(x**2)
    assert len(calls) == 1 and report.gramian is None
    before = json.dumps(opt.memory["last_losses"])
    opt.backward(x**2)
    assert json.dumps(opt.memory["last_losses"]) == before
    torch.testing.assert_close(opt.shares, torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert pyfront.FAMO(torch.optim.SGD([x], lr=0.1)).shares is None


def test_famo_measures_losses_from_their_least_values():
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    opt = pyfront.FAMO(torch.optim.SGD([x], lr=0.1), min_losses=[5.0, -1.0])
    report = opt.step([x[0] + 5.0, x[1] + 1.0])  # D = (1, 3)
    torch.testing.assert_close(
        report.weights, torch.tensor([0.75, 0.25], dtype=torch.float64), rtol=1e-7, atol=0
    )


def test_famo_keeps_its_number_of_tasks():
    x = torch.nn.Parameter(torch.ones(2))
    opt = pyfront.FAMO(torch.optim.SGD([x], lr=0.1))
    opt.step(x**2)
    with pytest.raises(ValueError, match="losses: expected 2 as before, got 3"):
        opt.step([x.sum() ** 2] * 3)

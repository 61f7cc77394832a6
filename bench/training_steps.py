"""Training steps that several benchmarks time: the floor of exact methods, and TorchJD."""

import pytest
import torch


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)


class Node(torch.autograd.Function):
    """The least that gives parameters a gradient when ``backward`` is called on a scalar."""

    @staticmethod
    def forward(ctx, value, direction, *params):
        ctx.save_for_backward(*direction)
        return value

    @staticmethod
    def backward(ctx, _):
        return None, None, *ctx.saved_tensors


def floor(model, closure, *, keep=False, by_node=False):
    """Forward, m backwards, Adam and no decision: what every method that needs C pays.

    Exact methods `keep` all m gradients in memory at once. A scalar's gradient arrives `by_node`.
    """
    base, params = adam(model), list(model.parameters())

    def step():
        losses, kept = closure(), []
        if by_node:
            base.zero_grad()
        for task, loss in enumerate(losses):
            row = torch.autograd.grad(
                loss, params, retain_graph=task + 1 < len(losses), allow_unused=True
            )
            if keep:
                kept.append(row)
        direction = [
            torch.zeros_like(p) if g is None else g for p, g in zip(params, row, strict=True)
        ]
        if by_node:
            del row  # so that .grad takes over the memory
            scalar = Node.apply(losses[0].detach().clone(), direction, *params)
            del direction
            scalar.backward()
        else:
            for p, g in zip(params, direction, strict=True):
                p.grad = g
        base.step()

    return step


def torchjd(model, closure, aggregator, *, shortcut, optimizer=adam):
    """TorchJD's step, with or without its own Gramian shortcut."""
    autojac = pytest.importorskip("torchjd.autojac", reason="torchjd is not installed")
    aggregation = pytest.importorskip("torchjd.aggregation", reason="torchjd is not installed")
    base, rule = optimizer(model), getattr(aggregation, aggregator)()

    def step():
        autojac.backward(closure())
        autojac.jac_to_grad(model.parameters(), rule, optimize_gramian_computation=shortcut)
        base.step()
        base.zero_grad()

    return step

"""Losses whose gradients come in every form that autograd gives, and their rows, slowly."""

import torch
from torch import nn


def reference(losses, params):
    """Rows by one autograd.grad a loss, dense, flattened, float64: slow and obvious."""
    rows = []
    for loss in losses:
        row = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
        rows.append(
            torch.cat(
                [
                    torch.zeros(p.numel(), dtype=torch.float64, device=p.device)
                    if g is None
                    else g.to_dense().detach().resolve_neg().double().reshape(-1)
                    for p, g in zip(params, row, strict=True)
                ]
            )
        )
    return torch.stack(rows)


def expanded():
    p = nn.Parameter(torch.randn(4, 5))
    return [p.sum(), (2 * p).sum()], [p]


def same_tensor_twice():
    p, q = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
    return [((p + q) ** 2).sum(), (p + q).sum()], [p, q]


def grad_output_itself():
    p, c = nn.Parameter(torch.randn(6)), torch.randn(6)
    return [(c * (p + 0)).sum(), (p + 0).sum()], [p]


def channels_last():
    conv = nn.Conv2d(3, 4, 3)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    y = conv(x)
    return [(y**2).sum(), y.mean()], list(conv.parameters())


def mixed_layouts():
    p = nn.Parameter(torch.randn(4, 5))
    return [(p**2).sum(), (p.t().contiguous() ** 3).sum(), (p.t() ** 2).t().sum()], [p]


def unused():
    p, q = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2))
    return [(p**2).sum(), (q**3).sum()], [p, q]


def empty_and_scalar():
    p, q = nn.Parameter(torch.randn(0, 3)), nn.Parameter(torch.randn(()))
    return [p.sum() + q**2, q * 3 + p.sum()], [p, q]


def sparse():
    table = nn.Embedding(7, 3, sparse=True)
    y = table(torch.tensor([1, 1, 5]))
    return [(y**2).sum(), y.sum()], list(table.parameters())


def negated_view():
    p, c = nn.Parameter(torch.randn(())), torch.tensor(1 + 2j)
    z = torch.complex(torch.tensor(0.5), p)
    return [(z.conj() * c).imag, (z * c).real], [p]


def bfloat16():
    p = nn.Parameter(torch.randn(65, dtype=torch.bfloat16))
    return [(p.float() ** 2).sum(), p.sum()], [p]


CASES = [
    expanded,
    same_tensor_twice,
    grad_output_itself,
    channels_last,
    mixed_layouts,
    unused,
    empty_and_scalar,
    sparse,
    negated_view,
    bfloat16,
]

"""A base that takes no sparse gradient, or no dense one, is named before anything changes."""

import copy

import pytest
import torch
from torch import nn

import pyfront


@pytest.mark.parametrize(
    "make",
    [
        pyfront.MGDA,
        lambda base: pyfront.MGDA(base, engine="columns"),
        lambda base: pyfront.PreferenceFeedback(base, [1.0, 1.0]),
        pyfront.SingleLoopMGDA,
    ],
    ids=["rows", "columns", "losses", "products"],
)
def test_a_refused_layout_changes_nothing(make):
    x, table = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Embedding(5, 2, sparse=True).weight
    opt = make([torch.optim.SGD([x], lr=0.1), torch.optim.SparseAdam([table])])

    def losses(read):
        return [x[k] ** 2 + (read(k) - k).square().sum() for k in range(2)]

    opt.backward(losses(lambda k: nn.functional.embedding(torch.tensor(k), table, sparse=True)))
    grads, memory, report = [x.grad, table.grad], copy.deepcopy(opt.memory), opt.report
    kept = [g.to_dense().clone() for g in grads]
    with pytest.raises(TypeError, match="SparseAdam takes no dense gradient"):
        opt.step(losses(lambda k: 3 * table[k]))
    assert opt.memory == memory and opt.report is report
    for p, g, before in zip([x, table], grads, kept, strict=True):
        assert p.grad is g and torch.equal(g.to_dense(), before)


def test_the_caller_of_backward_may_still_make_a_gradient_dense():
    table = nn.Embedding(5, 2, sparse=True)
    opt = pyfront.MGDA(torch.optim.Adam(table.parameters()))
    before = table.weight.detach().clone()

    def losses():
        return [(table(torch.tensor([0, k])) - k).square().sum() for k in (1, 2)]

    opt.backward(losses())
    table.weight.grad = table.weight.grad.to_dense()
    opt.step()
    assert not torch.equal(table.weight, before)
    with pytest.raises(TypeError, match="Adam takes no sparse gradient"):
        opt.step(losses())
    with pytest.raises(TypeError, match="Adam takes no sparse gradient"):
        opt.step(losses)
    assert not opt._shared.for_step


def test_a_closure_may_make_a_gradient_dense():
    table = nn.Embedding(5, 2, sparse=True)
    opt = pyfront.MGDA(torch.optim.Adam(table.parameters()))
    before = table.weight.detach().clone()

    def closure():
        z = table(torch.tensor([1, 2]))
        scalar = opt.scalarize([z[:, k].square().sum() for k in range(2)])
        opt.zero_grad()
        scalar.backward()
        table.weight.grad = table.weight.grad.to_dense()
        return scalar

    opt.step(closure)
    assert not torch.equal(table.weight, before)


def test_the_upper_bound_names_a_layout_before_any_base_steps():
    table, head = nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2)
    bases = [torch.optim.SGD(head.parameters(), lr=0.1), torch.optim.Adam(table.parameters())]
    opt = pyfront.MGDA(bases, upper_bound=True)
    before = head.weight.detach().clone()
    z = table(torch.tensor([1, 2]))
    y = head(z)
    with pytest.raises(TypeError, match="Adam takes no sparse gradient"):
        opt.step([y[:, k].square().sum() for k in range(2)], features=z)
    assert torch.equal(head.weight, before) and opt.report is None

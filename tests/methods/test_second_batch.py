"""A second batch in a step: the product of two Jacobians, its graph, and what is refused."""

import copy
import math

import pytest
import torch
from gradient_cases import reference
from method_cases import X, sgd

from pyfront import (
    SingleLoopMGDA,
)
from pyfront.backend.graph import share_a_graph


class _Halves(torch.nn.Module):
    """Two tasks on the halves of a batch that one forward pass has seen."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2)
        )

    def losses(self, x, together):
        halves = self.net(x).chunk(2) if together else map(self.net, x.chunk(2))
        return [list(y.square().mean(dim=0)) for y in halves]


def test_two_batches_give_the_product_of_two_jacobians(two_heads):
    opt = SingleLoopMGDA(sgd(two_heads.parameters(), 0.0))
    params = list(two_heads.parameters())
    x, y = torch.randn(2, 6, 5)
    seen = []
    opt.observe = lambda report, product, r: (seen.append(product), report)[1]
    opt.step(two_heads.losses(x), second=two_heads.losses(y))
    first, second = reference(two_heads.losses(x), params), reference(two_heads.losses(y), params)
    w = torch.tensor([0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(
        torch.from_numpy(seen[0]), first @ (second.T @ w), rtol=1e-5, atol=1e-7
    )
    flat = torch.cat([p.grad.double().reshape(-1) for p in params])
    torch.testing.assert_close(flat, 0.5 * (first + second).T @ w, rtol=1e-5, atol=1e-6)


def test_one_batch_blames_the_noisy_task_and_two_do_not():
    """Mean gradients e₁, e₂: w = (½, ½). Noise on the first adds its variance to C₁₁ alone."""
    means = {}
    for batches in (1, 2):
        generator = torch.Generator().manual_seed(0)
        x = torch.nn.Parameter(torch.zeros(12, dtype=torch.float64))
        opt = SingleLoopMGDA(sgd([x], 0.0), rate=0.1)

        def losses(x=x, generator=generator):
            noise = 0.7 * torch.randn(12, generator=generator, dtype=torch.float64)
            return [x[0] + noise @ x, x[1] * 1]

        total = torch.zeros(2, dtype=torch.float64)
        for step in range(400):
            second = losses() if batches == 2 else None
            weights = opt.step(losses(), second=second).weights
            total += weights if step >= 200 else 0
        means[batches] = (total / 200)[0].item()
    assert means[1] < 0.25 and abs(means[2] - 0.5) < 0.12


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_fixed_loss_has_weight_one_beside_two_batches(two_heads, every, scaled):
    params = list(two_heads.parameters())
    opt = SingleLoopMGDA(sgd(params, 0.0), every=every)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0) if scaled else None
    x, y = torch.randn(2, 6, 5)
    for _ in range(every):
        fixed = two_heads.trunk.weight.square().sum()
        second = two_heads.losses(y)
        report = opt.backward(two_heads.losses(x), second=second, fixed=fixed, scaler=scaler)
    both = [torch.stack(two_heads.losses(batch)).double() @ report.weights for batch in (x, y)]
    total = 0.5 * sum(both) + two_heads.trunk.weight.square().sum()
    for p, g in zip(params, torch.autograd.grad(total, params), strict=True):
        torch.testing.assert_close(p.grad / (64.0 if scaled else 1.0), g, rtol=1e-5, atol=1e-6)


def test_a_second_batch_beside_a_closure_is_not_forgotten(two_heads):
    ends = []
    x, y = torch.randn(2, 6, 5)
    for closure in (False, True):
        model = copy.deepcopy(two_heads)
        opt = SingleLoopMGDA(sgd(model.parameters()))
        losses = (lambda model=model: model.losses(x)) if closure else model.losses(x)
        opt.step(losses, second=model.losses(y))
        ends.append(model.trunk.weight)
    assert torch.equal(*ends)


@pytest.mark.parametrize("options", [{}, {"retain_graph": True}])
def test_two_halves_of_one_forward_pass_are_two_batches(options):
    model = _Halves()
    params, x = list(model.parameters()), torch.randn(8, 5)
    found = []
    for together in (False, True):
        opt = SingleLoopMGDA(sgd(params))
        losses, second = model.losses(x, together)
        fixed = losses[0] + second[1]
        opt.backward(losses, second=second, fixed=fixed, **options)
        found.append(([p.grad.clone() for p in params], opt.memory["simplex"]))
        if options:
            for kept in (losses, second):
                assert torch.autograd.grad(kept[0], params, retain_graph=True)
    for p, q in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(p, q)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)


def test_the_graph_of_a_second_batch_of_its_own_is_freed_at_once():
    model = _Halves()
    params, x = list(model.parameters()), torch.randn(8, 5)
    losses, second = model.losses(x, False)
    assert share_a_graph(*model.losses(x, True)) and not share_a_graph(losses, second)
    SingleLoopMGDA(sgd(params)).backward(losses, second=second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(second[0], params)


def test_an_infinite_second_batch_skips_the_step_under_a_scaler(two_heads):
    opt = SingleLoopMGDA(sgd(two_heads.parameters()))
    opt.step(two_heads.losses(X), second=two_heads.losses(X))
    memory = copy.deepcopy(opt.memory)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    a, b = two_heads.losses(X)
    report = opt.backward(two_heads.losses(X), second=[a, b * math.inf], scaler=scaler)
    assert report.status == "nonfinite" and opt.memory == memory
    assert two_heads.trunk.weight.grad.isnan().all()


def test_bad_second_batches(two_heads):
    base = sgd(two_heads.parameters())
    opt = SingleLoopMGDA(base)
    a, b = two_heads.losses(X)
    with pytest.raises(ValueError, match="second: expected 2 losses, got 1"):
        opt.step(two_heads.losses(X), second=[a])
    with pytest.raises(ValueError, match=r"second\[1\] = nan"):
        opt.step(two_heads.losses(X), second=[a, b * math.nan])
    with pytest.raises(ValueError, match="second: without losses"):
        opt.step(second=[a, b])
    with pytest.raises(ValueError, match="second: not with"):
        SingleLoopMGDA(base, task_gradients="own").step(two_heads.losses(X), second=[a, b])
    for over in ("shared", list(two_heads.trunk.parameters())):
        with pytest.raises(ValueError, match="second: needs gramian_over='all'"):
            opt = SingleLoopMGDA(base, gramian_over=over)
            opt.step(two_heads.losses(X), second=[a, b])
    with pytest.raises(ValueError, match="second: needs products='double_backward'"):
        SingleLoopMGDA(base, products="forward").step(lambda: two_heads.losses(X), second=[a, b])
    assert all(p.grad is None for p in two_heads.parameters())

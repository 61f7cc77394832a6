"""Gradients split at a representation: exact, and by the upper bound, against explicit formulas."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import pyfront
from pyfront.gradients.features import Split
from pyfront.gradients.grad_engine import GradEngine


class Net(nn.Module):
    """A trunk that returns two tensors; task 0 uses both, task 1 the first, task 2 the second."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(5, 8)
        self.heads = nn.ModuleList([nn.Linear(8, 2), nn.Linear(4, 3), nn.Linear(4, 1)])

    def forward(self, x):
        z = torch.tanh(self.trunk(x)).split(4, dim=1)  # two outputs of one node
        inputs = (torch.cat(z, dim=1), z[0], z[1])
        losses = [(head(i) ** 2).mean() + 0.1 for head, i in zip(self.heads, inputs, strict=True)]
        return list(z), losses


@pytest.fixture
def x():
    return torch.randn(6, 5)


def steps(model, make, x, features, count=4, **options):
    opt = make(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    for _ in range(count):
        z, losses = model(x)
        given = {"features": z} if features else {}
        opt.step(losses, **given, **options)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), opt.report


@pytest.mark.parametrize(
    "make",
    [
        pyfront.MGDA,
        lambda base: pyfront.EPO(base, [0.5, 0.3, 0.2]),
        lambda base: pyfront.MGDA(base, gramian_over="shared", task_gradients="own"),
        lambda base: pyfront.EPO(base, [0.5, 0.3, 0.2], every=2),
        lambda base: pyfront.LinearScalarization(base, [0.5, 0.3, 0.2]),
    ],
)
def test_the_exact_split_changes_nothing(make, x):
    model = Net()
    whole, report = steps(copy.deepcopy(model), make, x, features=False)
    split, other = steps(copy.deepcopy(model), make, x, features=True)
    torch.testing.assert_close(split, whole, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(other.weights, report.weights, rtol=1e-5, atol=1e-6)


def test_the_rows_are_the_task_gradients(x):
    model = Net()
    params = list(model.parameters())
    z, losses = model(x)
    names = [f"losses[{j}]" for j in range(3)]
    expected = GradEngine().rows(losses, params, retain_graph=True)
    for row, other in zip(
        Split(losses, z, params, bound=False).rows(names, True), expected, strict=True
    ):
        for a, b in zip(row, other, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def upper_bound_by_hand(model, x):
    """w from C_ij = ⟨∂l_i/∂z, ∂l_j/∂z⟩, and d = Σ_j w_j g_j."""
    z, losses = model(x)
    at_z = []
    for loss in losses:
        rows = torch.autograd.grad(loss, z, retain_graph=True, allow_unused=True)
        rows = [torch.zeros_like(b) if r is None else r for r, b in zip(rows, z, strict=True)]
        at_z.append(torch.cat([r.flatten() for r in rows]).double())
    c = torch.stack(at_z) @ torch.stack(at_z).T
    w = pyfront.functional.min_norm_weights(c).weights
    total = sum(weight * loss for weight, loss in zip(w.tolist(), losses, strict=True))
    return c, w, torch.autograd.grad(total, list(model.parameters()), allow_unused=True)


@pytest.mark.parametrize("fixed", [False, True])
def test_the_upper_bound_decides_at_the_features(x, fixed):
    model = Net()
    c, w, d = upper_bound_by_hand(model, x)
    opt = pyfront.MGDA(torch.optim.SGD(model.parameters(), lr=0.1), upper_bound=True)
    z, losses = model(x)
    extra = sum((p**2).sum() for p in model.parameters()) if fixed else None
    report = opt.backward(losses, features=z, fixed=extra)
    torch.testing.assert_close(report.gramian, c, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(report.weights, w, rtol=1e-4, atol=1e-5)
    for p, expected in zip(model.parameters(), d, strict=True):
        decay = 2 * p.detach() if fixed else 0.0
        torch.testing.assert_close(p.grad, expected + decay, rtol=1e-4, atol=1e-6)


def test_the_upper_bound_with_own_gradients_of_the_heads(x):
    model = Net()
    _, w, d = upper_bound_by_hand(model, x)
    opt = pyfront.MGDA(
        torch.optim.SGD(model.parameters(), lr=0.1), upper_bound=True, task_gradients="own"
    )
    z, losses = model(x)
    opt.backward(losses, features=z)
    weights = dict(zip(model.parameters(), [None, None, *np.repeat(w.numpy(), 2)], strict=True))
    for (p, weight), expected in zip(weights.items(), d, strict=True):
        scale = 1.0 if weight is None else 1.0 / weight
        torch.testing.assert_close(p.grad, expected * scale, rtol=1e-4, atol=1e-6)


def test_the_upper_bound_takes_one_pass_through_the_trunk(x):
    model = Net()
    passes = []
    model.trunk.weight.register_hook(lambda gradient: passes.append(1))
    for bound, expected in ((True, 1), (False, 3)):
        opt = pyfront.MGDA(torch.optim.SGD(model.parameters(), lr=0.1), upper_bound=bound)
        z, losses = model(x)
        opt.backward(losses, features=z)
        assert len(passes) == expected
        passes.clear()


def test_under_a_gradient_scaler(x):
    model = Net()
    _, w, d = upper_bound_by_hand(model, x)
    opt = pyfront.MGDA(torch.optim.SGD(model.parameters(), lr=0.1), upper_bound=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    z, losses = model(x)
    report = opt.backward(losses, features=z, scaler=scaler)
    torch.testing.assert_close(report.weights, w, rtol=1e-4, atol=1e-5)
    for p, expected in zip(model.parameters(), d, strict=True):
        torch.testing.assert_close(p.grad / 256.0, expected, rtol=1e-4, atol=1e-6)


def test_what_is_not_finite_in_a_head_or_at_the_features_is_named(x):
    for where in ("head", "features"):
        model = Net()
        opt = pyfront.MGDA(torch.optim.SGD(model.parameters(), lr=0.1), upper_bound=True)
        z, losses = model(x)
        at = model.heads[1].bias if where == "head" else z[0]
        at.register_hook(lambda g: None if g is None else g * torch.inf)
        with pytest.raises(ValueError, match=r"losses\[\d\] = .*not finite"):
            opt.backward(losses, features=z)
        assert all(p.grad is None for p in model.parameters())


def test_micro_batches_are_summed_with_the_exact_split(x):
    model = Net()
    grads = []
    for features in (False, True):
        opt = pyfront.MGDA(torch.optim.SGD(model.parameters(), lr=0.1))
        opt.accumulate(model(x[:3])[1])
        z, losses = model(x[3:])
        opt.backward(losses, **({"features": z} if features else {}))
        grads.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-6, atol=1e-7)


class Leaky(Net):
    """The heads also see the trunk's weights directly."""

    def forward(self, x):
        z, losses = super().forward(x)
        return z, [losses[0] + self.trunk.bias.sum(), *losses[1:]]


def test_bad_input_is_named_and_changes_nothing(x):
    def refused(match, model=None, error=ValueError, features=None, before=None, **options):
        model = model or Net()
        opt = pyfront.MGDA(torch.optim.SGD(model.parameters(), lr=0.1), **options)
        if before is not None:
            opt.accumulate(before(model))
        z, losses = model(x)
        with pytest.raises(error, match=match):
            opt.backward(losses, features=z if features is None else features(z))
        assert all(p.grad is None for p in model.parameters())

    refused("features: upper_bound needs", features=lambda z: None, upper_bound=True)
    refused("parameter 1 .* is reached beside", model=Leaky())
    refused(r"parameter 0 .* is reached beside", features=lambda z: z[:1])
    refused("features: expected at least one", features=lambda z: [])
    refused(r"features\[0\]: it has no graph", features=lambda z: [z[0].detach()])
    refused(r"features\[1\]: expected a tensor", error=TypeError, features=lambda z: [z[0], 3.0])
    refused("cannot stop at them", engine="steal")
    refused("accumulate", before=lambda model: model(x)[1], upper_bound=True)
    model = Net()
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="gramian_over: with upper_bound"):
        pyfront.MGDA(base, gramian_over="shared", upper_bound=True)
    with pytest.raises(ValueError, match="step: features: without losses"):
        pyfront.MGDA(base).step(features=model(x)[0])


def test_tensors_that_depend_on_each_other_are_refused(x):
    model = Net()
    opt = pyfront.MGDA(torch.optim.SGD(model.parameters(), lr=0.1))
    for again in (lambda z: [*z, z[0]], lambda z: [z[0], z[1], z[0] * 2.0]):
        z, losses = model(x)
        features = again(z)
        losses[0] = losses[0] + features[2].mean()
        with pytest.raises(ValueError, match=r"features\[2\]: it is given twice, or depends on"):
            opt.backward(losses, features=features)
        assert all(p.grad is None for p in model.parameters())


def test_pareto_mtl_takes_features(x):
    model = Net()
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    vectors = pyfront.preferences.das_dennis(3, 2)
    opt = pyfront.ParetoMTL(base, vectors, 1, upper_bound=True)
    z, losses = model(x)
    assert opt.step(losses, features=z).gramian.shape == (3, 3)


def test_an_upper_bound_needs_a_method_that_decides_on_a_gramian():
    base = torch.optim.SGD(Net().parameters(), lr=0.1)
    for make in (
        lambda: pyfront.LinearScalarization(base, [1, 1, 1], upper_bound=True),
        lambda: pyfront.SingleLoopMGDA(base, upper_bound=True),
    ):
        with pytest.raises(ValueError, match="upper_bound: .* does not decide on a Gramian"):
            make()

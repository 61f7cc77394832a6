"""Every step of ``engine="columns"`` is that of the default engine, without m gradients."""

import copy
import gc
import weakref

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import pyfront
from pyfront.gradients.columns_engine import ColumnsEngine

X = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(6, 5)


class Net(torch.nn.Module):
    """A trunk and three heads, of which the first has two tasks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = torch.nn.Linear(5, 7, dtype=torch.float64)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(7, 2).double() for _ in range(3))

    def features(self):
        return torch.tanh(self.trunk(X))

    def losses(self, z=None):
        z = self.features() if z is None else z
        a, b, c = (head(z) for head in self.heads)
        first = [a.square().mean() + 0.3, (a - 1).square().mean()]
        return [*first, (b + 2).square().mean(), c.exp().mean()]


R = [0.1, 0.2, 0.3, 0.4]
METHODS = {
    "MGDA": pyfront.MGDA,
    "normalised": lambda base, **more: pyfront.MGDA(base, normalization="l2", **more),
    "EPO": lambda base, **more: pyfront.EPO(base, R, **more),
    "UPGrad": pyfront.UPGrad,
    "NashMTL": pyfront.NashMTL,
    "GradNorm": pyfront.GradNorm,
    "Pareto MTL": lambda base, **more: pyfront.ParetoMTL(base, torch.eye(4) + 0.1, 0, **more),
}
OPTIONS = {
    "none": {},
    "own": {"task_gradients": "own"},
    "shared": {"gramian_over": "shared"},
    "shared, own": {"gramian_over": "shared", "task_gradients": "own"},
    "every": {"every": 2},
    "smoothed": {"weight_smoothing": 0.9},
    "sum": {"scale": "sum"},
}


def pair(make, **options):
    """A net and its optimizer by columns, and the same with the default engine."""
    found = []
    for engine in ("columns", "auto"):
        net = Net()
        base = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        found.append((net, make(base, engine=engine, **options)))
    return found


def same(found, reports):
    (net, opt), (other, rows) = found
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)
        assert (p.grad is None) == (q.grad is None)
    a, b = reports
    assert a.status == b.status
    torch.testing.assert_close(a.weights, b.weights, rtol=1e-8, atol=1e-10)
    if b.gramian is not None:
        size = b.gramian.diagonal().sqrt()
        assert torch.equal(a.gramian.isnan(), b.gramian.isnan())  # of absent tasks
        errors = ((a.gramian - b.gramian) / torch.outer(size, size)).nan_to_num().abs()
        assert errors.max() <= 1e-12
    assert opt.memory.keys() == rows.memory.keys()


@pytest.mark.parametrize("closure", [False, True], ids=["losses", "closure"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_makes_the_same_step(name, closure):
    found = pair(METHODS[name])
    for _ in range(3):
        reports = [opt.step(net.losses if closure else net.losses()) for net, opt in found]
        same(found, reports)


@pytest.mark.parametrize("closure", [False, True], ids=["losses", "closure"])
@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_makes_the_same_step(options, closure):
    found = pair(METHODS["EPO"], **OPTIONS[options])
    for _ in range(3):
        reports = [opt.step(net.losses if closure else net.losses()) for net, opt in found]
        same(found, reports)


def test_roles_that_are_named_and_parameters_that_c_is_over():
    found = pair(pyfront.MGDA)
    for net, opt in found:
        opt.gramian_over = net.trunk.parameters()
    same(found, [opt.step(net.losses()) for net, opt in found])
    found = []
    for engine in ("columns", "auto"):
        net = Net()
        groups = [
            {"params": [*net.trunk.parameters(), *net.heads[0].parameters()]},
            {"params": net.heads[1:].parameters(), "role": "task"},
        ]
        base = torch.optim.SGD(groups, lr=0.05)
        options = {"gramian_over": "shared", "task_gradients": "own"}
        found.append((net, pyfront.MGDA(base, engine=engine, **options)))
    same(found, [opt.step(net.losses()) for net, opt in found])
    same(found, [opt.step(net.losses()[:3]) for net, opt in found])  # one head is not reached


CALLS = {
    "fixed": lambda net, opt: opt.step(net.losses(), fixed=1e-2 * net.trunk.weight.square().sum()),
    "fixed, closure": lambda net, opt: opt.step(net.losses, fixed=net.trunk.weight.sum()),
    "absent": lambda net, opt: opt.step([*net.losses()[:2], None, net.losses()[3]]),
    "absent, closure": lambda net, opt: opt.step(lambda: [None, *net.losses()[1:]]),
    "named": lambda net, opt: opt.step(dict(zip("abcd", net.losses(), strict=True))),
    "one preference": lambda net, opt: opt.step(net.losses(), preference=[4.0, 3.0, 2.0, 1.0]),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_makes_the_same_step(call):
    found = pair(METHODS["EPO"])
    for _ in range(2):
        same(found, [CALLS[call](net, opt) for net, opt in found])


@pytest.mark.parametrize("options", [{}, {"task_gradients": "own"}])
def test_a_scalar_has_the_same_gradient(options):
    found = pair(pyfront.MGDA, **options)
    for net, opt in found:
        opt.zero_grad()
        (3.0 * opt.scalarize(net.losses())).backward()
        opt.step()
    same(found, [opt.report for _, opt in found])


@pytest.mark.parametrize("closure", [False, True], ids=["losses", "closure"])
def test_a_gradient_scaler(closure):
    found = pair(pyfront.MGDA)
    for net, opt in found:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        opt.backward(net.losses if closure else net.losses(), scaler=scaler)
        scaler.step(opt)
    same(found, [opt.report for _, opt in found])
    for net, opt in found:
        scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
        losses = net.losses()
        y = net.trunk.bias.sum()
        losses[1] = losses[1] + (y - y.detach()).abs().sqrt()
        assert opt.backward(losses, scaler=scaler).status == "nonfinite"
        assert all(p.grad.isnan().any() for p in net.trunk.parameters())
        losses = net.losses()
        y = net.trunk.bias.sum()
        losses[1] = losses[1] + (y - y.detach()).abs().sqrt()
        with pytest.raises(ValueError, match=r"losses\[1\] = .*: its gradient is not finite"):
            opt.step(losses)


def test_the_graph_is_kept_where_that_is_asked_for_and_freed_otherwise():
    (net, opt), _ = pair(pyfront.MGDA, task_gradients="own")
    losses = net.losses()
    first = opt.backward(losses, retain_graph=True)
    assert torch.equal(opt.backward(losses).weights, first.weights)
    with pytest.raises(ValueError, match="has been freed"):
        opt.backward(losses)


def test_one_pass_methods_and_products_do_not_notice():
    for make in (
        lambda base, **more: pyfront.PreferenceFeedback(base, R, **more),
        pyfront.SingleLoopMGDA,
    ):
        found = pair(make)
        for _ in range(2):
            same(found, [opt.step(net.losses) for net, opt in found])


def test_no_more_than_two_gradients_live_at_once(monkeypatch):
    (net, opt), _ = pair(pyfront.MGDA)
    living = []
    gradients = ColumnsEngine.gradients

    def watched(self, *given):
        passes = gradients(self, *given)
        while True:
            gc.collect()
            assert not any(ref() is not None for ref in living)  # that of the task before is gone
            row = next(passes)
            living[:] = [weakref.ref(g) for g in row if g is not None]
            yield row
            del row

    monkeypatch.setattr(ColumnsEngine, "gradients", watched)
    opt.step(net.losses())
    opt.step(net.losses)
    assert living and not any(ref() is not None for ref in living)


# -------------------------------------------------------------------------------------- refusals


def test_what_needs_rows_is_refused_by_name_and_changes_nothing():
    (net, opt), _ = pair(pyfront.MGDA)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"engine='columns': accumulate\(\) adds up"):
        opt.accumulate(net.losses())
    z = net.features()
    with pytest.raises(ValueError, match="engine='columns': features needs task gradients"):
        opt.step(net.losses(z), features=z)
    opt.engine = "auto"
    opt.accumulate(net.losses())
    opt.engine = "columns"
    with pytest.raises(ValueError, match=r"engine='columns': accumulate\(\) needs task gradients"):
        opt.step(net.losses())
    opt.zero_grad()
    opt.upper_bound = True
    z = net.features()
    with pytest.raises(ValueError, match="engine='columns': features needs"):
        opt.step(net.losses(z), features=z)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert opt.report is None


def test_rises_are_refused_too():
    (net, opt), _ = pair(pyfront.MGDA, track_rises=True)
    with pytest.raises(ValueError, match="engine='columns': track_rises needs task gradients"):
        opt.step(net.losses())


def test_the_explanation_knows_the_columns():
    (net, opt), _ = pair(pyfront.MGDA)
    opt.step(net.losses())
    text = opt.explain()
    assert "engine: columns" in text
    assert "4 backward passes, a product J g_j after each, and 1 more backward pass" in text
    assert "2 gradients at a time, 1.44 kB, while the step is decided" in text


def test_own_gradients_of_methods_on_losses_take_two_passes(monkeypatch):
    found = pair(lambda base, **more: pyfront.PreferenceFeedback(base, R, **more))
    for _, opt in found:
        opt.task_gradients = "own"
    monkeypatch.setattr(ColumnsEngine, "squares", None)  # C is not needed
    for (net, opt), (other, rows) in [found]:
        opt.step(net.losses())
        rows.step(other.losses())
    for p, q in zip(found[0][0].parameters(), found[1][0].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


def test_reentrant_checkpoints_are_refused():
    (net, opt), _ = pair(pyfront.MGDA)
    z = checkpoint(net.trunk, X.clone().requires_grad_(), use_reentrant=True)
    with pytest.raises(ValueError, match="engine='columns': the losses hold a reentrant"):
        opt.step(net.losses(torch.tanh(z)))


def test_gramian_over_shared_needs_a_shared_parameter():
    x, y = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = pyfront.MGDA(torch.optim.SGD([x, y], lr=0.1), gramian_over="shared", engine="columns")
    with pytest.raises(ValueError, match="no parameter is reached by two losses"):
        opt.step([x.sum(), y.sum()])

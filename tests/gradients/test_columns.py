"""C by columns against C of m gradients, and what a column cannot see."""

import re
import weakref

import numpy as np
import pytest
import torch
from product_cases import NAMES, Attention, Recurrent, models
from torch import nn
from torch.utils.checkpoint import checkpoint

import pyfront
from pyfront import functional
from pyfront.gradients.columns_engine import ColumnsEngine
from pyfront.gradients.engines import choose_engine, keeps_rows
from pyfront.gradients.grad_engine import GradEngine
from pyfront.gradients.product_ways import Record
from pyfront.gradients.replay import Replay

CALLS = pytest.mark.parametrize("closure", [False, True], ids=["losses", "closure"])


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def squares(compute, params, closure, inside=None):
    replay = Replay(compute)
    losses = list(replay.first())
    names = [f"losses[{task}]" for task in range(len(losses))]
    engine = ColumnsEngine()
    return engine.squares(losses, params, inside, names, replay if closure else None), losses


def rows_of(losses, params):
    return GradEngine().rows(losses, params, retain_graph=True)


@CALLS
@pytest.mark.parametrize("name", NAMES)
def test_columns_are_those_of_the_rows(double, two_heads, name, closure):
    model, compute = models(two_heads.double())[name]
    params = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in params]
    (c, norms), losses = squares(compute, params, closure)
    rows = rows_of(losses, params)  # the graph is still there
    expected = functional.gramian(rows).numpy()
    size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert (np.abs(c - expected) <= 1e-12 * size).all()
    np.testing.assert_allclose(norms, np.diag(expected), rtol=1e-13)
    assert np.array_equal(c, c.T)
    for p, old in zip(params, before, strict=True):
        assert torch.equal(p, old) and p.grad is None
    inside = list(range(1, len(params), 2))
    (c, norms), losses = squares(compute, params, closure, inside)
    rows = rows_of(losses, params)
    part = functional.gramian([[row[k] for k in inside] for row in rows]).numpy()
    assert (np.abs(c - part) <= 1e-12 * size).all()
    np.testing.assert_allclose(norms, np.diag(functional.gramian(rows).numpy()), rtol=1e-13)


@CALLS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_is_not_taken_for_a_hidden_derivative(dtype, closure):
    for seed in range(5):
        torch.manual_seed(seed)
        trunk = nn.Linear(20, 30).to(dtype)
        heads = nn.ModuleList(nn.Linear(30, 1) for _ in range(6)).to(dtype)
        x = torch.randn(16, 20, dtype=dtype)

        def compute(trunk=trunk, heads=heads, x=x):
            z = torch.tanh(trunk(x))
            return [(head(z) - j).square().mean() for j, head in enumerate(heads)]

        params = [*trunk.parameters(), *heads.parameters()]
        (c, _), losses = squares(compute, params, closure)
        expected = functional.gramian(rows_of(losses, params)).numpy()
        size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert (np.abs(c - expected) <= (3e-2 if dtype is torch.bfloat16 else 1e-5) * size).all()


@CALLS
def test_tasks_with_nothing_in_common_flat_ones_and_one_alone(closure):
    x, y = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0]))

    def compute():
        return [(x**2).sum(), (y**2).sum(), x.sum() + 0.0 * y.sum(), (x - 9).clamp(min=0).sum()]

    (c, norms), _ = squares(compute, [x, y], closure)
    assert c.tolist() == [[20, 0, 6, 0], [0, 36, 0, 0], [6, 0, 2, 0], [0, 0, 0, 0]]
    assert norms.tolist() == [20, 36, 2, 0]
    (c, norms), _ = squares(lambda: [(x**2).sum()], [x], closure)
    assert c.tolist() == [[20]] and norms.tolist() == [20]


@CALLS
def test_sparse_and_complex_parameters(closure):
    table = nn.Embedding(9, 2, sparse=True)
    z = nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))

    def compute():
        y = table(torch.tensor([1, 4, 4]))
        return [(y**2).sum() + (z * 1j).real.sum(), y.sum() + z.abs().square().sum()]

    params = [*table.parameters(), z]
    (c, _), losses = squares(compute, params, closure)
    jacobian = []
    for loss in losses:
        found = torch.autograd.grad(loss, params, retain_graph=True)
        jacobian.append(
            torch.cat([found[0].to_dense().flatten(), torch.view_as_real(found[1]).flatten()])
        )
    expected = (torch.stack(jacobian) @ torch.stack(jacobian).T).numpy()
    np.testing.assert_allclose(c, expected, rtol=1e-5)


class Once(torch.autograd.Function):
    """Differentiable once, without forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class Hidden(torch.autograd.Function):
    """A derivative that autograd does not see the second time, and none in forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return (2 * x * grad).detach()

    @staticmethod
    def jvp(ctx, tangent):
        return torch.zeros_like(tangent)


def refused(compute, params, closure, error, *words):
    with pytest.raises(error) as found:
        squares(compute, params, closure)
    for word in words:
        assert word in re.sub(r"\s+", " ", str(found.value)), str(found.value)


@CALLS
def test_operators_that_lack_a_derivative_are_named(closure):
    x = nn.Parameter(torch.tensor([1.0, 2.0]))
    called = "engine='columns' with a closure:" if closure else "engine='columns':"
    other = "give step() the losses" if closure else "give step() a closure"
    advice = (called, "does not support it", other, "engine='auto'")
    refused(lambda: [Once.apply(x).sum(), x.sum()], [x], closure, RuntimeError, *advice)
    if closure:
        rnn = Recurrent()
        rnn.mkldnn = True
        tokens = torch.arange(12).reshape(3, 4) % 11
        params = list(rnn.parameters())
        if torch.backends.mkldnn.is_available():
            refused(lambda: rnn.losses(tokens), params, True, RuntimeError, *advice)


@CALLS
@pytest.mark.parametrize("task", [0, 1])
def test_a_hidden_derivative_names_its_task(closure, task):
    x = nn.Parameter(torch.tensor([1.0, 2.0]))

    def compute():
        losses = [(x**2).sum(), x.sum()]
        losses[task] = losses[task] + Hidden.apply(x).sum()
        return losses

    name = f"a part of the derivative of losses[{task}] is hidden from autograd"
    refused(compute, [x], closure, RuntimeError, "engine='columns'", name)


def test_a_closure_that_returns_other_losses_is_refused():
    x, calls = nn.Parameter(torch.ones(2)), []

    def compute():
        calls.append(0)
        return [len(calls) * (x**2).sum(), x.sum()]

    refused(compute, [x], True, ValueError, "closure: losses[0] was 2 and is 4")


@CALLS
def test_a_freed_graph_and_a_loss_that_reaches_nothing(closure):
    x, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    refused(
        lambda: [(x**2).sum(), other.sum()],
        [x],
        closure,
        ValueError,
        "losses[1]: the graph reaches",
    )
    losses = [(x**2).sum(), x.exp().sum()]
    losses[0].backward()
    with pytest.raises(ValueError, match="graph has been freed"):
        ColumnsEngine().squares(losses, [x], None, ["losses[0]", "losses[1]"])


def test_gradients_that_are_not_finite_are_returned_as_they_are():
    x = nn.Parameter(torch.zeros(2))
    (_, norms), _ = squares(lambda: [x.abs().sqrt().sum(), x.sum()], [x], False)
    assert not np.isfinite(norms[0]) and norms[1] == 2


def test_dropout_draws_the_same_masks_in_the_closure():
    net, x = Attention(0.3), torch.randn(3, 4, 8)
    params = list(net.parameters())
    (c, _), losses = squares(lambda: net.losses(x), params, True)
    expected = functional.gramian(rows_of(losses, params)).numpy()
    np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_checkpoints_without_reentrance(two_heads):
    x = torch.linspace(-1, 1, 30).reshape(6, 5)

    def compute():
        z = checkpoint(two_heads.trunk, x, use_reentrant=False).tanh()
        return [head(z).square().mean() for head in two_heads.heads]

    params = list(two_heads.parameters())
    for closure in (False, True):
        (c, _), losses = squares(compute, params, closure)
        expected = functional.gramian(rows_of(losses, params)).numpy()
        np.testing.assert_allclose(c, expected, rtol=1e-5)


def test_several_processes_are_refused_by_name():
    x = nn.Parameter(torch.ones(2))
    losses = [x.sum(), (x**2).sum()]
    with pytest.raises(ValueError, match="engine='columns': with process_group C is that of"):
        choose_engine("columns", losses, replicas=True)
    with pytest.raises(ValueError, match="engine='columns': sharded parameters need 'steal'"):
        choose_engine("columns", losses, sharded=True)
    assert type(choose_engine("columns", losses)) is ColumnsEngine
    assert not keeps_rows("columns") and keeps_rows("auto") and keeps_rows("steal")


def test_a_record_keeps_no_gradient():
    x = torch.rand(1000, requires_grad=True)
    record = Record([x.square().sum(), x.sin().sum()], [x], np.ones(2), "columns", keep=True)
    tangent = torch.rand(1000)
    before = [t.item() for t in record.slopes([tangent], keep=True)]
    kept = weakref.ref(record.row[0])
    record.forget_direction()
    assert kept() is None
    assert [t.item() for t in record.slopes([tangent], keep=True)] == before


def test_a_loss_that_is_a_parameter_itself():
    x = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1), engine="columns")
    report = opt.backward([x, x.square()])
    assert report.gramian.tolist() == [[1.0, 4.0], [4.0, 16.0]]

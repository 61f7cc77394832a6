"""A wrong product does not pass for a right one, and a right one is not refused."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from product_cases import explicit
from torch import nn
from torch.autograd import forward_ad

from pyfront import SingleLoopMGDA
from pyfront.gradients.product_checks import Verified
from pyfront.gradients.products import gramian_product
from pyfront.gradients.replay import Replay

WAYS = ("double_backward", "forward", "difference")


class Once(torch.autograd.Function):
    """tanh, but differentiable only once."""

    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (1 - y**2)


class Hidden(Once):
    """The same, with a backward that autograd does not see."""

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g.detach() * (1 - y.detach() ** 2)


class Zero(torch.autograd.Function):
    """Has the gradient zero, by a rule of its own."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return torch.zeros_like(g)


class Many(nn.Module):
    def __init__(self, tasks):
        super().__init__()
        self.trunk = nn.Linear(5, 7)
        self.heads = nn.ModuleList([nn.Linear(7, 1) for _ in range(tasks)])
        self.x = torch.randn(6, 5)

    def losses(self, last=None):
        """Regressions to different targets; ``last(head, z)`` is the output of the last."""
        z = self.trunk(self.x).tanh()
        outputs = [head(z) for head in self.heads]
        if last is not None:
            outputs[-1] = last(self.heads[-1], z)
        return [(y - 0.3 * j - 1).square().mean() for j, y in enumerate(outputs)]


def whole(function):
    return lambda head, z: getattr(function, "apply", function)(head(z))


def part(function):
    """The head has its derivative; what it passes to the trunk is half hidden."""
    return lambda head, z: head(0.5 * z + 0.5 * function.apply(z))


def even(tasks):
    return np.full(tasks, 1 / tasks)


@pytest.mark.parametrize("function", [Once, Hidden])
@pytest.mark.parametrize("tasks", [2, 5, 20, 64])
def test_a_task_whose_derivative_is_hidden_is_named(tasks, function):
    net = Many(tasks)
    losses, params = net.losses(whole(function)), list(net.parameters())
    with pytest.raises(RuntimeError, match=rf"derivative of losses\[{tasks - 1}\] is hidden"):
        gramian_product(losses, params, even(tasks))


@pytest.mark.parametrize("function", [Once, Hidden])
@pytest.mark.parametrize("tasks", [2, 20, 64])
def test_a_hidden_part_of_one_task_of_many_is_found(tasks, function):
    net = Many(tasks)
    params = list(net.parameters())
    with pytest.raises(RuntimeError, match="a part of its derivative is hidden"):
        gramian_product(net.losses(part(function)), params, even(tasks))
    first, second = net.losses(part(function)), Many(tasks).losses()
    along = torch.autograd.grad(sum(net.losses()), params)
    assert len(first) == len(second)
    with pytest.raises(RuntimeError, match="a part of its derivative is hidden"):
        gramian_product(first, params, even(tasks), along=along)


@pytest.mark.parametrize("last", [whole(Once), part(Once), whole(Hidden), part(Hidden)])
def test_an_operator_that_appears_later_is_found_when_it_does(last):
    net = Many(20)
    opt = SingleLoopMGDA(torch.optim.SGD(net.parameters(), lr=0.01))
    for _ in range(3):
        opt.step(net.losses())
    memory, weight = copy.deepcopy(opt.memory), net.trunk.weight.detach().clone()
    with pytest.raises(RuntimeError, match="is hidden"):
        opt.step(net.losses(last))
    assert opt.memory == memory and torch.equal(net.trunk.weight, weight)
    opt.step(net.losses())


@pytest.mark.parametrize("products", ["double_backward", "forward"])
def test_one_backward_pass_more_where_the_graph_holds_a_new_operator(products):
    net, counts = Many(3), []
    net.trunk.weight.register_hook(lambda g: counts.append(1))
    opt = SingleLoopMGDA(torch.optim.SGD(net.parameters(), lr=0.01), products=products)
    passes = []
    for last in [None, None, None, *[whole(torch.sigmoid)] * 2, None]:
        counts.clear()
        opt.step(lambda last=last: net.losses(last))
        passes.append(len(counts))
    assert passes == [2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("products", ["forward", "difference"])
@pytest.mark.parametrize("later", [False, True])
def test_one_loss_of_thirty_that_is_not_computed_again_is_named(products, later):
    net, kept, calls = Many(30), [], []

    def stale():
        calls.append(None)
        losses = net.losses()
        if not later or opt.report is not None:
            kept.append(losses[-1])
            losses[-1] = kept[0]
        return losses

    opt = SingleLoopMGDA(torch.optim.SGD(net.parameters(), lr=0.01), products=products)
    if later:
        opt.step(stale)
    with pytest.raises((ValueError, RuntimeError), match=r"losses\[29\]"):
        opt.step(stale)


def flat_cases():
    """Losses some of which have, rightly, no slope along d: (losses of x, of y and z; weights)."""
    return {
        "round": (lambda x, y: [(x**2).sum(), x.round().sum() + y.sign().sum()], [0.5, 0.5]),
        "hinge": (lambda x, y: [(x**2).sum(), (x - 9).clamp(min=0).sum() + 1], [0.5, 0.5]),
        "no weight": (lambda x, y: [(x**2).sum(), (y**2).sum()], [1.0, 0.0]),
        "orthogonal": (lambda x, y: [x[0] ** 2, x[1] ** 2 + y.sum()], [1.0, 0.0]),
        "constant gradient": (lambda x, y: [x.sum(), 3 * x.sum() - y.sum()], [0.5, 0.5]),
        "zero by rule": (lambda x, y: [(x**2).sum(), (Zero.apply(x) ** 2).sum()], [0.5, 0.5]),
        "stationary": (lambda x, y: [x.sum(), -x.sum()], [0.5, 0.5]),
    }


@pytest.mark.parametrize("products", WAYS)
@pytest.mark.parametrize("name", flat_cases())
def test_a_task_without_a_slope_along_d_is_not_refused(name, products):
    if name == "zero by rule" and products == "forward":
        pytest.skip("a custom function without jvp has no forward mode")
    x, y = (nn.Parameter(torch.tensor(v)) for v in ([0.7, -1.3, 2.2], [0.4, 1.1]))
    compute, v = flat_cases()[name]
    replay, verified = Replay(lambda: compute(x, y)), Verified()
    for _ in range(3):
        values, _ = explicit(compute(x, y), [x, y], torch.tensor(v, dtype=torch.float64))
        product = gramian_product(
            replay.first(), [x, y], v, products=products, replay=replay, verified=verified
        )
        size = max(values.abs().max().item(), 1.0)
        assert np.abs(product.values - values.numpy()).max() < 1e-2 * size
    again = products == "double_backward" and name in ("round", "zero by rule")
    assert products == "difference" or verified.due(compute(x, y), [x, y]) == again
    assert verified.due(compute(x, y), [x])  # of other parameters
    assert pickle.loads(pickle.dumps(verified)).due(compute(x, y), [x, y])  # perhaps of others


def test_a_loss_that_reaches_no_parameter_has_the_product_zero():
    x, other = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.ones(2))
    for products in WAYS:
        replay = Replay(lambda: [(x**2).sum(), (other**2).sum()])
        product = gramian_product(replay.first(), [x], [0.5, 0.5], products=products, replay=replay)
        assert product.values == pytest.approx([10.0, 0.0], rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("products", ["double_backward", "forward"])
def test_rounding_is_not_taken_for_a_hidden_derivative(products, dtype):
    for seed in range(20):
        torch.manual_seed(seed)
        net = Many(8).to(dtype)
        net.x = net.x.to(dtype)
        v = np.random.default_rng(seed).dirichlet(np.ones(8))
        replay = Replay(net.losses)
        gramian_product(replay.first(), list(net.parameters()), v, products=products, replay=replay)


def test_a_hook_that_scales_gradients_is_a_part_of_the_losses():
    net = Many(4)
    net.trunk.weight.register_hook(lambda g: 2 * g)
    v = torch.full((4,), 0.25, dtype=torch.float64)
    values, _ = explicit(net.losses(), list(net.parameters()), v)
    product = gramian_product(net.losses(), list(net.parameters()), v)
    torch.testing.assert_close(torch.from_numpy(product.values), values, rtol=1e-5, atol=1e-6)


def test_the_buffers_of_a_compiled_model_are_not_needed_twice():
    net = Many(2)
    trunk = torch.compile(net.trunk, backend="aot_eager")
    params = list(net.parameters())
    assert not Verified().due([trunk(net.x).sum(), net.trunk(net.x).sum()], params)
    assert Verified().due([net.trunk(net.x).sum()], params)


def test_forward_mode_in_two_threads_says_so():
    net = Many(2)
    replay, opened, finish = Replay(net.losses), threading.Event(), threading.Event()

    def hold():
        with forward_ad.dual_level():
            opened.set()
            finish.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert opened.wait(30)
        before = [p.detach().clone() for p in net.parameters()]
        with pytest.raises(RuntimeError, match="one at a time in a process.*'double_backward'"):
            gramian_product(
                replay.first(), list(net.parameters()), [1, 1], products="forward", replay=replay
            )
    finally:
        finish.set()
        other.join()
    for p, old in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, old)
    gramian_product(
        replay.first(), list(net.parameters()), [1, 1], products="forward", replay=replay
    )

"""Closures that call autograd themselves, as losses of physics-informed networks do."""

import numpy as np
import pytest
import torch

import pyfront
from pyfront.gradients.products import gramian_product
from pyfront.gradients.replay import Replay

INSIDE = torch.linspace(0.1, 0.9, 24, dtype=torch.float64).reshape(12, 2).sin()


def setting():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    return net.double()


def losses(net, noise=0.0):
    """u_t + u u_x − u_xx / 10 inside, and u on the boundary."""
    points = INSIDE.clone().requires_grad_()
    u = net(points) + noise * torch.randn(12, 1, dtype=torch.float64)
    (du,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    (ddu,) = torch.autograd.grad(du[:, 0].sum(), points, create_graph=True)
    residual = du[:, 1] + u[:, 0] * du[:, 0] - 0.1 * ddu[:, 0]
    return [(residual**2).mean(), (net(INSIDE[:4]) ** 2).mean()]


def exact(net, v, noise):
    torch.manual_seed(5)
    rows = []
    for loss in losses(net, noise):
        found = torch.autograd.grad(loss, net.parameters(), retain_graph=True, allow_unused=True)
        pairs = zip(found, net.parameters(), strict=True)
        blocks = [torch.zeros_like(p) if g is None else g for g, p in pairs]
        rows.append(torch.cat([block.flatten() for block in blocks]))
    jacobian = torch.stack(rows)
    return (jacobian @ (jacobian.T @ torch.tensor(v, dtype=torch.float64))).numpy()


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize(
    ("products", "tolerance"),
    [("forward", 1e-10), ("difference", 1e-6), ("double_backward", 1e-10)],
)
def test_the_product_is_exact(products, tolerance, noise):
    net, v = setting(), [0.3, 0.7]
    torch.manual_seed(5)
    replay = Replay(lambda: losses(net, noise))
    before = {name: p.clone() for name, p in net.state_dict().items()}
    product = gramian_product(
        replay.first(), list(net.parameters()), v, products=products, replay=replay
    )
    np.testing.assert_allclose(product.values, exact(net, v, noise), rtol=tolerance)
    assert replay.differentiates == (products != "double_backward")
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())


@pytest.mark.parametrize("products", ["forward", "difference"])
def test_a_method_tries_without_gradients_once(products):
    net = setting()
    opt = pyfront.SingleLoopMGDA(torch.optim.SGD(net.parameters(), lr=0.01), products=products)
    modes = []

    def closure():
        modes.append(torch.is_grad_enabled())
        return losses(net)

    opt.step(closure)
    assert modes.count(False) == 1  # and it failed
    modes.clear()
    opt.step(closure)
    assert modes and all(modes)


@pytest.mark.parametrize("products", ["forward", "difference"])
def test_other_closures_are_replayed_without_a_graph(products):
    net = setting()
    opt = pyfront.SingleLoopMGDA(torch.optim.SGD(net.parameters(), lr=0.01), products=products)
    modes = []

    def closure():
        modes.append(torch.is_grad_enabled())
        return [(net(INSIDE) ** 2).mean(), (net(INSIDE[:4]) ** 2).mean()]

    for _ in range(2):
        opt.step(closure)
    assert modes.count(True) == 2 and modes.count(False) == (2 if products == "forward" else 6)


@pytest.mark.parametrize("products", ["forward", "difference"])
def test_errors_of_the_closure_itself_are_not_hidden(products):
    net = setting()
    opt = pyfront.SingleLoopMGDA(torch.optim.SGD(net.parameters(), lr=0.01), products=products)

    def closure():
        if not torch.is_grad_enabled():
            raise RuntimeError("the data has ended")
        return losses(net)

    before = {name: p.clone() for name, p in net.state_dict().items()}
    with pytest.raises(RuntimeError, match="the data has ended"):
        opt.step(closure)
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())


# --------------------------------------------------------------------------- advice that ends


@pytest.mark.parametrize("sparse", [False, True])
def test_the_advice_for_an_operator_without_formulas_ends_at_a_way_that_works(sparse):
    torch.manual_seed(0)
    bag = torch.nn.EmbeddingBag(6, 3, mode="sum", sparse=sparse)
    head = torch.nn.Linear(3, 2)
    rows = torch.tensor([[0, 1, 2], [3, 4, 4]])
    params = [*bag.parameters(), *head.parameters()]

    def closure():
        out = head(bag(rows))
        return [(out[:, 0] ** 2).mean(), ((out[:, 1] - 1) ** 2).mean()]

    def step(products):
        opt = pyfront.SingleLoopMGDA(torch.optim.SGD(params, lr=0.1), products=products)
        opt.step(closure)

    for products in ("double_backward", "forward"):
        with pytest.raises(RuntimeError, match="'difference', which every operator supports in"):
            step(products)
    step("difference")


def test_half_precision_without_formulas_is_told_the_way_out():
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    opt = pyfront.SingleLoopMGDA(torch.optim.SGD([p], lr=0.1), products="difference")
    with pytest.raises(TypeError, match="keep losses and parameters in float32, or set products="):
        opt.step(lambda: [(p[0] ** 2), (p[1] ** 2)])

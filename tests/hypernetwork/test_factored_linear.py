"""Weights in factors: the product of the whole weight, and the whole weight for other readers."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from wide_network import P, X, functional, gradients, network

from pyfront._utils.torch_private import without_subclass_functions
from pyfront.hypernetwork.factored_linear import Factors

# ------------------------------------------------------------------------------------- mathematics

SHAPES = [  # R, K, d, I, O
    (3, 5, 4, 6, 15), (3, 5, 4, 6, 13), (1, 7, 2, 3, 7), (7, 1, 2, 3, 7), (2, 3, 1, 1, 5),
    (4, 9, 8, 1, 33), (12, 30, 16, 50, 350),
]  # fmt: skip


def factors(rows, count, width, inputs, outputs):
    def random(*shape, size=1.0):
        return (size * torch.randn(shape, dtype=torch.float64)).requires_grad_()

    projection = random(rows, width, inputs, size=(width * inputs) ** -0.5)
    return Factors(projection, random(count, width), random(), outputs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_weight_is_that_of_its_equation(shape):
    rows, count, _, inputs, outputs = shape
    given = factors(*shape)
    weight = given.weight()
    assert weight.shape == (outputs, inputs) and weight._version == 0
    for o in range(outputs):
        r, k = divmod(o, count)
        expected = given.mean + given.coefficients[k] @ given.projection[r]
        torch.testing.assert_close(weight[o], expected, rtol=1e-13, atol=1e-13)
    assert rows * count >= outputs


@pytest.mark.parametrize("batch", [(), (1,), (9,), (2, 3), (0,), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_product_is_that_of_the_weight_with_all_derivatives(shape, batch):
    given = factors(*shape)
    x = torch.randn(*batch, shape[3], dtype=torch.float64, requires_grad=True)
    product, expected = given.product(x), F.linear(x, given.weight())
    torch.testing.assert_close(product, expected, rtol=1e-12, atol=1e-12)
    leaves = [x, *given[:3]]
    direction = torch.randn_like(expected)
    first, second = (
        torch.autograd.grad((y * direction).sin().sum() / 100.0, leaves, create_graph=True)
        for y in (product, expected)
    )
    torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-11)
    twice = [
        torch.autograd.grad(sum(g.square().sum() for g in once), leaves) for once in (first, second)
    ]
    torch.testing.assert_close(*twice, rtol=1e-10, atol=1e-10)


def test_the_cheaper_way_is_the_one_with_fewer_multiplications():
    given = Factors(torch.empty(4, 8, 100), torch.empty(50, 8), torch.zeros(()), 200)
    # in factors B · 4 · 8 · (100 + 50) = 4800 B, else 4 · 50 · 8 · 100 + B · 100 · 200
    assert all(given.is_cheaper_for(rows) for rows in (0, 1, 1000))
    wide = Factors(torch.empty(100, 8, 100), torch.empty(2, 8), torch.zeros(()), 200)
    # B · 100 · 8 · 102 = 81 600 B against 160 000 + 20 000 B: up to 2
    assert [wide.is_cheaper_for(rows) for rows in (1, 2, 3)] == [True, True, False]


# ---------------------------------------------------------------------------------------- networks


@pytest.fixture
def never_whole(monkeypatch):
    def refuse(self):
        raise AssertionError("the weight was made whole")

    monkeypatch.setattr(Factors, "weight", refuse)


def test_a_call_never_makes_the_weight(never_whole):
    net = network()
    assert isinstance(net.generator.blocks[0].projection, nn.Parameter)
    gradients(net, net(X, preference=P))
    assert len(net(X, preference=torch.eye(2))) == 2


def test_a_call_equals_the_network_of_whole_weights():
    net = network()
    output = net(X, preference=P)
    torch.testing.assert_close(output, net.generate(P)(X), rtol=1e-12, atol=1e-12)
    expected = functional(net, X)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradients(net, output), gradients(net, expected), rtol=1e-11, atol=1e-11
    )
    net.switch(P)
    assert torch.equal(net(X), net.generate(P)(X))
    several = net(X, preference=[P, [1, 0]])
    torch.testing.assert_close(several[1], net.generate([1, 0])(X), rtol=1e-12, atol=1e-12)


def test_float32_is_as_exact_as_with_whole_weights():
    net = network().float()
    exact = copy.deepcopy(net).double()(X, preference=P)
    errors = [
        (y - exact).abs().max().item()
        for y in (net(X.float(), preference=P), functional(net, X.float()))
    ]
    assert errors[0] < 4.0 * errors[1] < 1e-5


class Doubled(nn.Linear):
    def forward(self, x):
        return 2.0 * super().forward(x)


class StraightThrough(torch.autograd.Function):
    """Rounds a weight, and hands its gradient on."""

    @staticmethod
    def forward(ctx, weight):
        return (weight * 64.0).round() / 64.0

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def times(x: torch.Tensor, weight: torch.Tensor):
    return x @ weight.t()


def one_step(model, x):
    """A step of the layer itself, as meta-learning makes it."""
    own = dict(model.first.named_parameters())

    def loss(own):
        return torch.func.functional_call(model.first, own, x).square().mean()

    steps = torch.func.grad(loss)(own)
    return torch.func.functional_call(
        model.first, {name: own[name] - 0.1 * steps[name] for name in own}, x
    )


def inside_vmap_and_outside(model, x):
    inside = torch.func.vmap(lambda row: model.first.weight @ row)(x)
    return inside + model.first(x)


def after_no_grad(model, x):
    with torch.no_grad():
        assert model.first.weight.norm() > 0.0
    return model.first(x)


def after_inference_mode(model, x):
    with torch.inference_mode():
        largest = model.first.weight.max().item()
    return model.first(x) * largest


def with_a_hook_on_the_weight(model, x):
    model.first.weight.register_hook(lambda gradient: 2.0 * gradient)
    return model.first(x)


def without_functions_of_subclasses(model, x):
    with without_subclass_functions():
        return x @ model.first.weight.T


def by_the_captured_forward(model, x):
    return nn.Linear.forward(model.first, x)


def in_a_checkpoint(model, x):
    weight = model.first.weight
    return checkpoint(lambda x: x @ weight.T, x, use_reentrant=False)


def by_stride(model, x):
    weight = model.first.weight
    return x @ torch.as_strided(weight, weight.size(), weight.stride()).T


def with_another_class(model, x):
    model.first.__class__ = Doubled
    y = model.first(x)
    model.first.__class__ = nn.Linear
    return y


def with_another_forward(model, x):
    forward = nn.Linear.forward
    nn.Linear.forward = lambda layer, x: 3.0 * forward(layer, x)
    try:
        return model.first(x)
    finally:
        nn.Linear.forward = forward


def with_another_function(model, x):
    linear = F.linear
    F.linear = lambda x, *rest: 3.0 * linear(x, *rest)
    try:
        return model.first(x)
    finally:
        F.linear = linear


class Tripling(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return 3.0 * result if func is F.linear else result


def in_a_mode(model, x):
    with Tripling():
        return model.first(x)


READERS = {
    "transposed": lambda model, x: x @ model.first.weight.T + model.first.bias,
    "part": lambda model, x: F.linear(x[:, :9], model.first.weight[:, :9], model.first.bias),
    "by keyword": lambda model, x: F.linear(input=x, weight=model.first.weight),
    "as input": lambda model, x: F.linear(model.first.weight, x).T,
    "in a list": lambda model, x: model.first(x) + torch.stack([model.first.weight]).mean(),
    "through parameters": lambda model, x: (
        model.first(x) * sum(p.square().sum() for p in model.parameters())
    ),
    "through its type": lambda model, x: (
        model.first(x) * sum(m.weight.sum() for m in model.modules() if type(m) is nn.Linear)
    ),
    "through the instance": lambda model, x: x @ vars(model.first)["_parameters"]["weight"].T,
    "by getattr": lambda model, x: x @ model.first.__getattr__("weight").T,
    "with another class": with_another_class,
    "with another forward": with_another_forward,
    "with another function": with_another_function,
    "in a mode": in_a_mode,
    "through a table": lambda model, x: x @ model.first._parameters["weight"].T,
    "through the state": lambda model, x: (
        model.first(x) * model.state_dict(keep_vars=True)["first.weight"].square().sum()
    ),
    "an operator of its own": lambda model, x: x @ StraightThrough.apply(model.first.weight).T,
    "scripted": lambda model, x: torch.jit.script(times)(x, model.first.weight),
    "copied to a new tensor": lambda model, x: x @ x.new_tensor(model.first.weight.tolist()).T,
    "as a parameter": lambda model, x: F.linear(x, nn.Parameter(model.first.weight.detach())),
    "over its rows": lambda model, x: torch.func.vmap(lambda row: x @ row)(model.first.weight).T,
    "one step": one_step,
    "inside vmap and outside": inside_vmap_and_outside,
    "after no_grad": after_no_grad,
    "after inference mode": after_inference_mode,
    "with a hook": with_a_hook_on_the_weight,
    "without functions of subclasses": without_functions_of_subclasses,
    "by the captured forward": by_the_captured_forward,
    "in a checkpoint": in_a_checkpoint,
    "by stride": by_stride,
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("switched", [False, True], ids=["never switched", "switched"])
@pytest.mark.parametrize("name", READERS)
def test_other_readers_get_the_whole_weight(name, switched):
    net = network(READERS[name])
    if switched:
        net.switch([1, 0])  # the place then holds another weight
    output, expected = net(X, preference=P), functional(net, X)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    found = (
        torch.autograd.grad(y.square().sum(), list(net.parameters()), allow_unused=True)
        for y in (output, expected)
    )
    torch.testing.assert_close(*map(list, found), rtol=1e-10, atol=1e-10)


def test_the_weight_is_an_ordinary_tensor():
    kept = []

    def read(model, x):
        weight = model.first.weight
        assert type(weight) is torch.Tensor and type(model.first) is nn.Linear
        assert weight.requires_grad and weight.grad_fn is not None and not weight.is_leaf
        assert model.first.weight is weight is dict(model.named_parameters())["first.weight"]
        kept.append(weight)
        return model.first(x)

    net = network(read)
    net(X, preference=P)
    expected = net.parameters_at(P)["first.weight"]
    with torch.no_grad():
        net.generator.blocks[0].projection.mul_(2.0)
    assert torch.equal(kept[0], expected)  # also when the call is long over

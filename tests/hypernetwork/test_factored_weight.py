"""Weights in factors: the product of the whole weight, and the whole weight for other readers."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from wide_network import P, X, functional, gradients, network

from pyfront.hypernetwork.factored_weight import FactoredWeight, Factors

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


def read_after_detached(model, x):
    with torch.no_grad():
        assert model.first.weight.norm() > 0.0  # makes the weight where nothing is recorded
    return model.first(x)


READERS = {
    "transposed": lambda model, x: x @ model.first.weight.T + model.first.bias,
    "part": lambda model, x: F.linear(x[:, :9], model.first.weight[:, :9], model.first.bias),
    "by keyword": lambda model, x: F.linear(input=x, weight=model.first.weight),
    "as input": lambda model, x: F.linear(model.first.weight, x).T,
    "in a list": lambda model, x: model.first(x) + torch.stack([model.first.weight]).mean(),
    "in inference mode": lambda model, x: model.first(x) * read_in_inference_mode(model),
    "detached before": read_after_detached,
    "through parameters": lambda model, x: (
        model.first(x) * sum(p.square().sum() for p in model.parameters())
    ),
    "of another length": lambda model, x: (
        F.linear(x, model.first.weight).unflatten(1, (8, 65))[:, 0] @ model.first.weight[:65]
    ),
}


def read_in_inference_mode(model):
    with torch.inference_mode():
        return model.first.weight.max().item()


@pytest.mark.parametrize("name", READERS)
def test_other_readers_get_the_whole_weight(name):
    read = READERS[name]
    if name == "of another length":

        def read(model, x):
            return READERS[name](model, x) @ torch.ones(512, 520, dtype=torch.float64)

    net = network(read)
    output, expected = net(X, preference=P), functional(net, X)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradients(net, output), gradients(net, expected), rtol=1e-10, atol=1e-10
    )


def test_descriptions_do_not_make_it_whole(never_whole):
    def read(model, x):
        weight = model.first.weight
        assert isinstance(weight, FactoredWeight) and isinstance(weight, torch.Tensor)
        assert weight.shape == (520, 512) == weight.size() and weight.dim() == weight.ndim == 2
        assert weight.dtype is torch.float64 and weight.device.type == "cpu"
        assert weight.numel() == 520 * 512 and weight.is_contiguous() and not weight.is_cuda
        return model.first(x.to(weight.dtype))

    assert network(read)(X, preference=P).isfinite().all()


def test_what_differs_between_place_and_weight_is_that_of_the_weight():
    def read(model, x):
        weight = model.first.weight
        assert weight.requires_grad and weight.grad_fn is not None and not weight.is_leaf
        assert weight.isfinite().all() and "nan" not in repr(weight)
        assert weight.data_ptr() == model.first.weight.data_ptr()
        return model.first(x)

    assert network(read)(X, preference=P).isfinite().all()


def write(how):
    def read(model, x):
        y = model.first(x)
        weight = model.first.weight
        if how == "assign":
            model.first.weight = nn.Parameter(torch.zeros(520, 512, dtype=torch.float64))
        elif how == "register":
            del model.first.weight
            model.first.weight = nn.Parameter(torch.zeros(520, 512, dtype=torch.float64))
        elif how == "data":
            weight.data.zero_()
        else:
            with torch.no_grad():
                weight.zero_() if how == "zero" else weight.t()[0].mul_(2.0)
        return model.first(x) if how != "after" else y

    return read


@pytest.mark.parametrize("how", ["assign", "register", "zero", "view"])
def test_a_forward_that_changes_the_weight_is_refused(how):
    net = network(write(how))
    place = net.model.first.weight
    with pytest.raises(ValueError, match="first.weight: the model's forward changes"):
        net(X, preference=P)
    assert net.model.first.weight is place and place.isnan().all()


def test_what_is_written_through_data_lasts_for_the_call():
    net = network(write("data"))
    bias = net.parameters_at(P)["first.bias"]
    output = net(X, preference=P)
    torch.testing.assert_close(output, net.generate(P).last(torch.tanh(bias)).expand(5, 3))
    assert net.parameters_at(P)["first.weight"].abs().max() > 0.01

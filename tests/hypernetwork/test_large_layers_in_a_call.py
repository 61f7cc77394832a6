"""What a call does to a large layer: what is refused, what is left, and other calls within it."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from wide_network import P, X, functional, gradients, network

import pyfront
from pyfront._utils.loss_space import as_directions
from pyfront.hypernetwork import places


def reloaded(value):
    return pickle.loads(pickle.dumps(value))


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
        return model.first(x) + y

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
    model = net.generate(P)
    expected = model.last(torch.tanh(model.first(X) + bias))
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    assert net.parameters_at(P)["first.weight"].abs().max() > 0.01


@pytest.mark.parametrize("how", ["after a call", "after a reader", "after an error"])
def test_nothing_of_a_call_is_left(how):
    def read(model, x):
        y = model.first(x)
        if how != "after a call":
            y = y + model.first.weight.sum()
        if how == "after an error":
            raise KeyError("x")
        return y

    net = network(read)
    before = {key: dict(value) if key == "_parameters" else value for key, value in _state(net)}
    for _ in range(2):
        try:
            net(X, preference=P)
        except KeyError:
            assert how == "after an error"
        assert type(net.model.first) is nn.Linear
        assert dict(_state(net)) == before
        assert net.model.first.weight.isnan().all()


def _state(net):
    return list(vars(net.model.first).items())


@pytest.mark.parametrize("copier", [copy.deepcopy, reloaded], ids=["copied", "pickled"])
def test_a_forward_may_copy_its_layer(copier):
    def read(model, x):
        with torch.no_grad():
            other = copier(model.first)
        assert type(other) is nn.Linear
        assert "pyfront" not in type(other.forward).__module__
        return model.first(x) + other(x)

    net = network(read)
    with torch.no_grad():
        torch.testing.assert_close(net(X, preference=P), functional(net, X), rtol=0, atol=1e-12)


OTHER_LAYERS = {
    "its own forward": lambda layer: setattr(layer, "forward", lambda x: x @ layer.weight.T),
    "hooks": lambda layer: layer.register_forward_pre_hook(
        lambda module, args: (args[0] * module.weight.mean(),)
    ),
    "hooks after": lambda layer: layer.register_forward_hook(
        lambda module, args, y: y * module.weight.square().mean()
    ),
}


@pytest.mark.parametrize("name", OTHER_LAYERS)
def test_layers_that_do_more(name):
    net = network()
    OTHER_LAYERS[name](net.model.first)
    output, expected = net(X, preference=P), functional(net, X)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradients(net, output), gradients(net, expected), rtol=1e-10, atol=1e-10
    )


class Doubled(nn.Linear):
    def forward(self, x):
        return 2.0 * super().forward(x)


class Named(nn.Linear):
    """A linear layer with a name of its own."""


def test_subclasses_of_linear_layers():
    torch.manual_seed(0)
    for kind in (Doubled, Named):
        net = pyfront.HyperNetwork(kind(512, 520).double(), 2)
        assert len(net.generator.blocks) == 0
        output, expected = net(X, preference=P), net.generate(P)(X)
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        assert type(net.model) is kind


def test_a_layer_whose_weight_is_deleted_in_a_call_has_it_in_the_next():
    times = []

    def read(model, x):
        if not times:
            weight = model.first.weight
            del model.first.weight
            model.first.weight = 2.0 * weight
        times.append(1)
        return model.first(x)

    net = network(read)
    with pytest.raises(ValueError, match="first.weight: the model's forward changes"):
        net(X, preference=P)
    expected = network()(X, preference=P)
    torch.testing.assert_close(net(X, preference=P), expected, rtol=0, atol=1e-12)


def test_a_call_without_gradients_has_none_whatever_its_forward_says():
    recorded = []

    def read(model, x):
        with torch.enable_grad():
            y = model.first(x)
            recorded.append((y.requires_grad, model.first.weight.requires_grad))
        return y

    net = network(read)
    with torch.no_grad():
        net(X, preference=P)
    assert recorded == [(False, False)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_calls_within_calls(when):
    inner, busy = [], []

    def read(model, x):
        y = model.first(x) if when == "after" else None
        if not busy:
            busy.append(True)
            inner.append(net(x, preference=[1, 0]))
            inner.append(net.generate([1, 0])(x))
            busy.clear()
        return model.first(x) if y is None else y

    net = network(read)
    place = net.model.first.weight
    output, found = net(X, preference=P), inner[:2]
    busy.append(True)
    torch.testing.assert_close(output, functional(net, X), rtol=1e-12, atol=1e-12)
    expected = net.generate([1, 0])(X)
    for y in found:
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    assert net.model.first.weight is place and place.isnan().all()
    assert "forward" not in vars(net.model.first)


class PartInCheckpoint(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.Linear(512, 512), nn.Linear(512, 520)

    def block(self, x):
        return torch.tanh(self.trunk(x.to(self.head.weight.dtype)))

    def forward(self, x):
        return self.head(checkpoint(self.block, x, use_reentrant=False))


def test_a_checkpoint_may_look_at_the_type_of_a_generated_weight():
    torch.manual_seed(0)
    net = pyfront.HyperNetwork(PartInCheckpoint().double(), 2, parameters="head.*")
    found = gradients(net, net(X, preference=P))
    net.model.block = lambda x: torch.tanh(net.model.trunk(x))
    expected = gradients(net, net(X, preference=P))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_factors_are_whole_in_a_trace(monkeypatch):
    net = network()
    state = net._networks(as_directions([P], 2), ["first.weight"])[0]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    output = places.call_with(net.model, state, net.replaced(), (X,), {}, tied=False)
    monkeypatch.undo()
    torch.testing.assert_close(output, functional(net, X), rtol=1e-12, atol=1e-12)

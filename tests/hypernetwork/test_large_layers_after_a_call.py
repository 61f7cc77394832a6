"""What is kept of a large layer beyond its call, and biases and modes that a call meets."""

import gc
import os
import subprocess
import sys
import weakref
from traceback import TracebackException

import pytest
import torch
from sharding import needs_fully_shard
from torch import nn
from torch.nn.utils import prune
from wide_network import P, Wide, X, functional, gradients, network

import pyfront
from pyfront.hypernetwork import factored_linear

# --------------------------------------------------------------------------------- kept for longer


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_a_forward_that_is_kept_is_that_of_the_layer(bias):
    def make(read):
        torch.manual_seed(0)
        model = Wide(read).double()
        if not bias:
            model.first.bias = None
        return pyfront.HyperNetwork(model, 2, parameters="*.weight")

    def read(model, x):
        if not hasattr(model, "kept"):
            kept = model.kept = model.first.forward
            model.first.forward = lambda x: kept(x)
        return model.first(x)

    net, other = make(read), make(None)
    for p in ([0.3, 0.7], [0.9, 0.1]):
        found, expected = net(X, preference=p), other(X, preference=p)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            gradients(net, found), gradients(other, expected), rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("read_in_the_call", [False, True], ids=["unread", "read"])
def test_a_table_that_is_kept_is_that_of_the_layer(read_in_the_call):
    tables = []

    def read(model, x):
        tables.append(model.first._parameters)
        return model.first(x) + (model.first.weight.sum() if read_in_the_call else 0.0)

    net = network(read)
    places = dict(net.replaced())
    net(X, preference=P)
    table = tables[0]
    assert len(table) == 2 and list(table) == ["weight", "bias"] == list(table.keys())
    assert table["weight"] is places["first.weight"] and table.get("bias") is places["first.bias"]
    assert "nan" in repr(table) and table.items()
    assert all(net.model.get_parameter(name) is place for name, place in places.items())


def test_an_error_shown_with_what_it_knows_leaves_the_layer_alone():
    def read(model, x):
        model.first.weight = torch.zeros(520, 512, dtype=torch.float64)

    net = network(read)
    place = net.model.first.weight
    with pytest.raises(TypeError) as caught:
        net(X, preference=P)
    "".join(TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert net.model.first.weight is place


@pytest.mark.parametrize("read_in_the_call", [False, True], ids=["unread", "read"])
def test_nothing_of_a_call_is_kept_alive(monkeypatch, read_in_the_call):
    made = []
    begin = factored_linear._Weight.__init__

    def noted(self, *args):
        begin(self, *args)
        made.append(weakref.ref(self))

    monkeypatch.setattr(factored_linear._Weight, "__init__", noted)
    net = network(lambda m, x: m.first(x) + (m.first.weight.sum() if read_in_the_call else 0.0))
    gc.disable()
    try:
        net(X, preference=P).sum().backward()
        assert len(made) == 1 and made[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [dict, lambda table: table.copy()], ids=["dict", "copy"])
def test_another_table_in_the_forward(kind):
    def read(model, x):
        model.first._parameters = kind(model.first._parameters)
        return model.first(x)

    net = network(read)
    places = dict(net.replaced())
    for _ in range(2):
        torch.testing.assert_close(net(X, preference=P), network()(X, preference=P))
        assert all(net.model.get_parameter(name) is place for name, place in places.items())


# ----------------------------------------------------------------------------------- other biases


def as_buffer(layer):
    bias = layer.bias.detach() + 3.0
    del layer.bias
    layer.register_buffer("bias", bias)


def as_attribute(layer):
    bias = layer.bias.detach() + 3.0
    del layer.bias
    layer.bias = bias


BIASES = {
    "pruned": lambda layer: prune.l1_unstructured(layer, "bias", 0.5),
    "buffer": as_buffer,
    "attribute": as_attribute,
    "none": lambda layer: setattr(layer, "bias", None),
}


@pytest.mark.parametrize("name", BIASES)
def test_a_bias_is_what_the_layer_has_for_one(name):
    torch.manual_seed(0)
    model = Wide().double()
    BIASES[name](model.first)
    net = pyfront.HyperNetwork(model, 2)
    output = net(X, preference=P)
    torch.testing.assert_close(output, net.generate(P)(X), rtol=1e-12, atol=1e-12)
    net.switch(P)
    torch.testing.assert_close(output, net(X), rtol=1e-12, atol=1e-12)


def test_a_weight_among_the_attributes_of_the_layer_is_the_one():
    def read(model, x):
        vars(model.first)["weight"] = torch.ones(520, 512, dtype=torch.float64)
        try:
            return model.first(x)
        finally:
            del vars(model.first)["weight"]

    net = network(read)
    torch.testing.assert_close(net(X, preference=P), functional(net, X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(512,), (5, 512), (2, 3, 512)], ids=str)
def test_an_output_without_bias_is_a_tensor_of_its_own(shape):
    def read(model, x):
        with torch.no_grad():
            y = model.first(x)
        return y.add_(model.scale)

    torch.manual_seed(0)
    model = Wide(read).double()
    model.first.bias, model.scale = None, nn.Parameter(torch.ones((), dtype=torch.float64))
    net = pyfront.HyperNetwork(model, 2, parameters="*.weight")
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(net(x, preference=P), functional(net, x), rtol=1e-12, atol=1e-12)


def test_inputs_whose_sum_overflows():
    torch.manual_seed(0)
    net = pyfront.HyperNetwork(nn.Linear(512, 520), 2)
    x = torch.full((2, 512), 5e36)
    torch.testing.assert_close(net(x, preference=P), net.generate(P)(x), rtol=1e-3, atol=1e34)


# -------------------------------------------------------------------------------------- other modes

TRANSFORMS = {
    "grad": lambda f, x: torch.func.grad(f)(x),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "vjp": lambda f, x: torch.func.vjp(f, x)[1](torch.ones((), dtype=x.dtype))[0],
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_first_read_may_be_in_a_transform(name):
    def read(model, x):
        slope = TRANSFORMS[name](lambda x: (x @ model.first.weight.T).square().sum(), x)
        return model.first(x + slope)

    net = network(read)
    output, expected = net(X, preference=P), functional(net, X)
    torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11)


def test_a_default_device_keeps_factors(monkeypatch):
    def refuse(self):
        raise AssertionError("the weight was made whole")

    net = network()
    monkeypatch.setattr(factored_linear.Factors, "weight", refuse)
    with torch.device("cpu"):
        assert net(X, preference=P).shape == (5, 3)


class NotCompiled(Wide):
    @torch.compiler.disable
    def named(self):
        return "a method that is kept out of graphs"


def test_methods_outside_of_graphs_are_not_compiled_code(monkeypatch):
    net = pyfront.HyperNetwork(NotCompiled().double(), 2)
    assert net.model.named()
    monkeypatch.setattr(factored_linear.Factors, "weight", None)
    assert net(X, preference=P).shape == (5, 3)


SHARDED = """
import sys, torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from wide_network import P, X, Wide
import pyfront
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
mesh = dist.init_device_mesh("cpu", (1,))
for parts in (["generator"], ["generator", ""], [""]):
    torch.manual_seed(0)
    net = pyfront.HyperNetwork(Wide(), 2)
    expected = net(X.float(), preference=P)
    expected.square().sum().backward()
    slope = net.generator.blocks[0].projection.grad.clone()
    for name in parts:
        fully_shard(net.get_submodule(name), mesh=mesh, reshard_after_forward=True)
    net.zero_grad()
    output = net(X.float(), preference=P)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    output.square().sum().backward()
    found = net.generator.blocks[0].projection.grad.to_local()
    torch.testing.assert_close(found, slope, rtol=1e-3, atol=1e-4)
dist.destroy_process_group()
"""


@needs_fully_shard
def test_sharded_generators(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SHARDED, str(tmp_path / "store")]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})

"""Each private name of torch has a fallback: the name is taken away, and the result stays."""

import subprocess
import sys

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from wide_network import P, X, functional, network

import pyfront
from pyfront._utils import torch_private
from pyfront.gradients.engines import choose_engine
from pyfront.hypernetwork import factored_linear
from pyfront.hypernetwork.parameters import can_stay_in_factors

TAKE_AWAY = """
import warnings, torch
{take}
import pyfront
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
x = torch.ones(5, 3)
for products in {products}:
    opt = pyfront.SingleLoopMGDA(torch.optim.SGD(model.parameters(), lr=0.1), products=products)
    opt.step(lambda: (model(x) ** 2).mean(dim=0))
opt = pyfront.MGDA(torch.optim.SGD(model.parameters(), lr=0.1))
opt.step((model(x) ** 2).mean(dim=0))
with warnings.catch_warnings(record=True):
    net = pyfront.HyperNetwork(model, num_tasks=2, plain=True)
    net(x, preference=[0.5, 0.5]).sum().backward()
    net.switch([0.3, 0.7])
assert torch.equal(net(x), net.generate([0.3, 0.7])(x))
"""
NAMES = {
    "_disable_dynamo": "import torch._compile; del torch._compile._disable_dynamo",
    "_unsafe_preserve_version_counter": (
        "import torch.autograd.grad_mode as g; del g._unsafe_preserve_version_counter"
    ),
    "_current_graph_task_id": "del torch._C._current_graph_task_id",
    "_foreach_copy_": "del torch._foreach_copy_",
    "run_backward": (
        "engine = torch.autograd.Variable._execution_engine;"
        "torch.autograd.Variable._execution_engine = None;"
        "import torch.autograd.graph as g; g.Variable = type('V', (), "
        "{'_execution_engine': engine})"
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_without_a_private_name_the_package_works(name):
    ways = ["double_backward", "forward"]
    if name == "_unsafe_preserve_version_counter":
        ways.pop()  # refused, by the test below
    code = TAKE_AWAY.format(take=NAMES[name], products=ways)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_product_that_needs_a_missing_name_says_what_to_set(monkeypatch):
    monkeypatch.delattr("torch.autograd.grad_mode._unsafe_preserve_version_counter")
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    opt = pyfront.SingleLoopMGDA(torch.optim.SGD([x], lr=0.1), products="forward")
    with pytest.raises(RuntimeError, match="set products='double_backward'"):
        opt.step(lambda: [x[0] ** 2, x[1] ** 2])
    assert x.tolist() == [1.0, 2.0]


def test_a_lost_check_is_said_once(monkeypatch):
    monkeypatch.setattr(torch_private, "_found", lambda *path: None)
    torch_private._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="checkpoints of activations .* are not noticed"):
        assert torch_private.in_backward_pass() is False
    assert torch_private.version_of(torch.ones(1)) == 0
    assert torch_private.was_unscaled(torch.amp.GradScaler("cpu"))
    a, b = torch.zeros(2), torch.ones(2)
    torch_private.copy_all([a], [b])
    assert torch.equal(a, b)
    torch_private._warn_once.cache_clear()


@pytest.mark.parametrize("holds", [False, True], ids=["without tables", "with compiled code"])
def test_large_weights_are_whole_where_a_layer_cannot_be_looked_into(monkeypatch, holds):
    net = network()
    assert "first.weight" in can_stay_in_factors(net.model, ["first.weight"], net.means)
    if holds:
        net.model.last = torch.compile(net.model.last, backend="eager")
    else:
        monkeypatch.setattr(factored_linear, "parameters_held_by", lambda module: None)
    assert can_stay_in_factors(net.model, ["first.weight"], net.means) == []
    if not holds:
        assert torch.equal(net(X, preference=P), functional(net, X))


class Mode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("named", [True, False], ids=["named", "without the name"])
def test_modes_that_may_change_functions(monkeypatch, named):
    if not named:
        monkeypatch.setattr(torch_private, "_found", lambda *path: None)
    assert not torch_private.functions_are_changed()
    with Mode():
        assert torch_private.functions_are_changed()
    with torch.device("cpu"):
        assert torch_private.functions_are_changed() is not named


def test_compiled_code_is_found():
    linear = torch.nn.Linear(2, 2)
    assert not torch_private.holds_compiled_code(torch.nn.Sequential(linear))
    assert torch_private.holds_compiled_code(torch.nn.Sequential(torch.compile(linear)))
    linear.compile()
    assert torch_private.holds_compiled_code(torch.nn.Sequential(linear))
    other = torch.nn.Linear(2, 2)
    other.forward = torch.compile(other.forward)
    assert torch_private.holds_compiled_code(other)


def test_the_names_of_nodes_are_those_of_this_torch():
    x = torch.ones(2, requires_grad=True)
    y = checkpoint(torch.sin, x, use_reentrant=True).sum()
    assert choose_engine("auto", [y]).name == "steal"
    z = x.to(torch.bfloat16)
    assert z.grad_fn.name() == torch_private.CONVERSION_NODE
    factor = torch.tensor(2.0)
    assert torch_private.multiplier_of(x.sum() * factor).data_ptr() == factor.data_ptr()
    assert torch_private.multiplier_of(x.sum()) is None
    scaler = torch.amp.GradScaler("cpu")
    assert not torch_private.was_unscaled(scaler)
    optimizer = torch.optim.SGD([torch.nn.Parameter(x.detach())], lr=0.1)
    optimizer.param_groups[0]["params"][0].grad = scaler.scale(torch.ones(2))
    scaler.unscale_(optimizer)
    assert torch_private.was_unscaled(scaler)
    leaf = x.sum().grad_fn.next_functions[0][0]
    assert torch_private.leaf_of(leaf) is x


def test_importing_does_not_import_dynamo():
    code = "import sys, pyfront; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert pyfront.__version__

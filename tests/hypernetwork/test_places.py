"""Generated tensors are in the main network for a call, and a call that changes that is refused."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import pyfront

# ------------------------------------------------------------------------ forwards that change them


class Changing(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.linear = nn.Linear(24, 24)
        self.how = how

    def forward(self, x):
        weight = self.linear.weight
        if self.how == "assign":
            self.linear.weight = nn.Parameter(weight * 0.5)
        elif self.how == "data":
            weight.data.clamp_(-0.01, 0.01)
        else:
            with torch.no_grad():
                weight.clamp_(-0.01, 0.01)
        return self.linear(x)


@pytest.mark.parametrize("preference", [[1, 1], [[1, 1], [1, 0]]], ids=["one", "several"])
@pytest.mark.parametrize("how", ["assign", "write"])
def test_a_forward_that_changes_a_generated_parameter_is_refused(how, preference):
    net, x = pyfront.HyperNetwork(Changing(how), 2, size=2.0), torch.randn(2, 24)
    place = net.model.linear.weight
    with pytest.raises(ValueError, match="linear.weight: the model's forward changes"):
        net(x, preference=preference)
    assert net.model.linear.weight is place
    left_out = pyfront.HyperNetwork(Changing(how), 2, size=9.0, parameters="*.bias", plain=True)
    assert left_out(x, preference=[1, 1]).shape == (2, 24)


@pytest.mark.parametrize("how", ["assign", "write"])
def test_after_a_switch_too(how):
    net, x = pyfront.HyperNetwork(Changing(how), 2, size=2.0), torch.randn(2, 24)
    net.switch([1, 1])
    with pytest.raises(ValueError, match="linear.weight: the model's forward"):
        net(x)


def test_what_a_forward_writes_through_data_lasts_for_the_call():
    net, x = pyfront.HyperNetwork(Changing("data"), 2, size=2.0), torch.randn(2, 24)
    bias = net.parameters_at([1, 1])["linear.bias"]
    assert (net(x, preference=[1, 1]) - bias).abs().max() <= 0.01 * x.abs().sum(dim=1).max()
    assert net.parameters_at([1, 1])["linear.weight"].abs().max() > 0.01


@pytest.mark.parametrize("preference", [[1, 1], [[1, 1], [1, 0]]], ids=["one", "several"])
def test_inference_mode(preference):
    net, x = pyfront.HyperNetwork(nn.Linear(24, 24), 2, size=2.0), torch.randn(2, 24)
    expected = net(x, preference=preference)
    with torch.inference_mode():
        torch.testing.assert_close(net(x, preference=preference), expected)
        assert torch.equal(net.generate([1, 1])(x), net(x, preference=[1, 1]))
        changing = pyfront.HyperNetwork(Changing("assign"), 2, size=2.0)
        with pytest.raises(ValueError, match="linear.weight: the model's forward changes"):
            changing(x, preference=preference)


class Replacing(nn.Module):
    """Changes what its names lead to, before it uses them or after."""

    def __init__(self, replace, first):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.encode, self.decode = nn.Linear(6, 6), nn.Linear(6, 6)
        self.decode.weight = self.encode.weight
        self.replace, self.first = replace, first

    def forward(self, x):
        if self.first:
            self.replace(self)
            return self.encode(x)
        y = self.decode(self.encode(self.body(x)))
        self.replace(self)
        return y


REPLACEMENTS = {
    "module": (
        lambda model: setattr(model, "body", nn.Sequential(nn.Linear(6, 6))),
        "body.0.weight",
    ),
    "layer": (lambda model: model.body.__setitem__(0, nn.Linear(6, 6)), "body.0.weight"),
    "none left": (lambda model: delattr(model, "body"), "body.0.weight"),
    "other name of a tie": (
        lambda model: setattr(model, "decode", nn.Linear(6, 6)),
        "decode.weight",
    ),
}


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("name", REPLACEMENTS)
def test_a_forward_that_replaces_a_module_of_generated_parameters_is_refused(name, first):
    replace, parameter = REPLACEMENTS[name]
    net = pyfront.HyperNetwork(Replacing(replace, first), 2, plain=True)
    with pytest.raises(
        ValueError, match=f"{parameter}: the model's forward replaces this parameter or its module"
    ):
        net(torch.zeros(1, 6), preference=[1, 1])


def test_a_forward_that_registers_a_generated_parameter_anew_is_refused():
    def register(model):
        model.encode.register_parameter("bias", nn.Parameter(torch.zeros(6)))

    net = pyfront.HyperNetwork(Replacing(register, True), 2, plain=True)
    with pytest.raises(ValueError, match="encode.bias: the model's forward changes"):
        net(torch.zeros(1, 6), preference=[1, 1])


def test_a_forward_may_replace_what_is_shared():
    def replace(model):
        model.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh())

    net = pyfront.HyperNetwork(Replacing(replace, False), 2, plain=True, parameters="encode.*")
    assert net(torch.zeros(1, 6), preference=[1, 1]).shape == (1, 6)


# --------------------------------------------------------------------- modules under several names


class Shared(nn.Module):
    """One layer under two names, and its weight in another layer too."""

    def __init__(self):
        super().__init__()
        self.layer = self.again = nn.Linear(6, 6)
        self.other = nn.Linear(6, 6)
        self.other.weight = self.layer.weight
        self.norm = self.norm_again = nn.BatchNorm1d(6)

    def forward(self, x):
        return self.norm_again(self.other(torch.tanh(self.again(self.norm(self.layer(x))))))


@pytest.mark.parametrize("preference", [[1, 3], [[1, 3], [1, 0]]], ids=["one", "several"])
def test_a_module_may_have_several_names(preference):
    net, x = pyfront.HyperNetwork(Shared(), 2, plain=True), torch.randn(5, 6)
    places, buffers = net.replaced(), {name: b.clone() for name, b in net.model.named_buffers()}
    assert {"layer.weight", "again.weight", "other.weight"} <= places.keys()
    for _ in range(2):
        for name, value in buffers.items():
            net.model.get_buffer(name).copy_(value)
        output = net(x, preference=preference)
        output = output[0] if isinstance(output, list) else output
        for name, value in buffers.items():
            net.model.get_buffer(name).copy_(value)
        torch.testing.assert_close(output, net.generate([1, 3])(x))
        assert all(net.model.get_parameter(name) is place for name, place in places.items())
        assert all(place.isnan().all() for place in places.values())
    assert {name: id(p) for name, p in net.model.named_parameters()} == {
        name: id(p) for name, p in places.items() if name in dict(net.model.named_parameters())
    }


def test_buffers_that_are_no_longer_shared_are_kept_apart():
    model = nn.Sequential(nn.BatchNorm1d(6), nn.BatchNorm1d(6))
    model[1].running_mean = model[0].running_mean
    net = pyfront.HyperNetwork(model, 2, plain=True).double().eval()
    net.model[1].running_mean.add_(3.0)
    assert (net.model[0].running_mean == 0.0).all()
    x = torch.randn(5, 6, dtype=torch.float64)
    several = net(x, preference=[[1, 3], [1, 0]])
    torch.testing.assert_close(several[0], net.generate([1, 3])(x), rtol=1e-12, atol=1e-12)


# ----------------------------------------------------------------------- checkpoints of activations


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        self.attention = nn.MultiheadAttention(8, 2)
        self.head = nn.Linear(8, 3)
        self.reentrant = reentrant

    def forward(self, x):
        def attend(z):
            return self.attention(z, z, z, need_weights=False)[0]

        for part in (self.inner, attend):
            if self.reentrant is None:
                x = part(x)
            else:
                x = checkpoint(part, x, use_reentrant=self.reentrant)
        return self.head(x)


def gradients(run, model):
    model.zero_grad()
    run().square().sum().backward()
    return [p.grad for p in model.parameters()]


REENTRANT = pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])


@REENTRANT
@pytest.mark.parametrize(
    ("parameters", "part"),
    [(None, "attention"), ("inner.2.bias", "inner"), ("attention.out_proj.*", "attention")],
    ids=["all", "some", "used by the module above"],
)
@pytest.mark.parametrize(
    "again",
    [lambda net: net, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=["made", "copied", "pickled"],
)
def test_a_checkpoint_inside_the_model_is_refused(parameters, part, reentrant, again):
    options = {"parameters": parameters, "plain": True}
    net = again(pyfront.HyperNetwork(Checkpointed(reentrant), 2, **options))
    opt = pyfront.EPO(torch.optim.SGD(net.parameters(), lr=0.1), [1, 1], engine="steal")
    before = copy.deepcopy(net.state_dict())
    y = net(torch.randn(4, 8, requires_grad=True), preference=[1, 3])
    with pytest.raises(RuntimeError, match=rf"^{part}.*: is read in the backward pass"):
        opt.step([y[:, 0].square().sum(), y[:, 1].square().sum()])
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Reading(nn.Module):
    """A checkpointed function reads generated parameters and calls no module that holds them."""

    def __init__(self, how, reentrant):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.weight, self.bias = nn.Parameter(torch.eye(8)), nn.Parameter(torch.randn(8))
        self.how, self.reentrant = how, reentrant

    def forward(self, x):
        def part(z):
            if self.how == "bias":  # relu of NaN lets gradients through as they are
                return torch.relu(z + self.bias)
            if self.how == "shape":
                return z.to(self.weight.dtype).view(-1, *self.weight.shape[1:]).tanh()
            return torch.tanh(z @ self.weight)

        if self.reentrant is None:
            return part(self.first(x))
        return checkpoint(part, self.first(x), use_reentrant=self.reentrant)


@REENTRANT
@pytest.mark.parametrize("thawed", [False, True], ids=["as made", "thawed"])
@pytest.mark.parametrize("switched", ["never", "before", "after the call"])
@pytest.mark.parametrize("how", ["weight", "bias"])
def test_a_checkpointed_function_that_reads_is_refused(how, switched, thawed, reentrant):
    net = pyfront.HyperNetwork(Reading(how, reentrant), 2, plain=True)
    if thawed:
        nn.Sequential(net).requires_grad_(True)
    if switched == "before":
        net.switch([3, 1])
    y = net(torch.randn(4, 8), preference=[1, 3])
    if switched == "after the call":
        net.switch([3, 1])
    with pytest.raises(RuntimeError, match=f"^{how}: is read in the backward pass"):
        y.sum().backward()


@REENTRANT
def test_a_checkpointed_function_may_read_shapes(reentrant):
    net = pyfront.HyperNetwork(Reading("shape", reentrant), 2, plain=True)
    x = torch.randn(4, 8)
    found = gradients(lambda: net(x, preference=[1, 3]), net)
    net.model.reentrant = None
    torch.testing.assert_close(found, gradients(lambda: net(x, preference=[1, 3]), net))


@REENTRANT
def test_a_checkpoint_in_the_shared_part_is_right(reentrant):
    torch.manual_seed(0)
    model, x = Checkpointed(reentrant), torch.randn(4, 8, requires_grad=True)
    net = pyfront.HyperNetwork(model, 2, parameters="head.*", plain=True)
    found = gradients(lambda: net(x, preference=[1, 3]), net)
    net.model.reentrant = None
    expected = gradients(lambda: net(x, preference=[1, 3]), net)
    torch.testing.assert_close(found, expected)


@REENTRANT
@pytest.mark.parametrize("preference", [[1, 3], [[1, 3], [1, 0]]], ids=["one", "several"])
def test_a_checkpoint_around_the_call_is_right(reentrant, preference):
    net = pyfront.HyperNetwork(Checkpointed(None), 2, plain=True, parameters=["inner.*", "head.*"])
    x = torch.randn(4, 8, requires_grad=True)

    def call(x):
        y = net(x, preference=preference)
        return torch.stack(y) if isinstance(y, list) else y

    found = gradients(lambda: checkpoint(call, x, use_reentrant=reentrant), net)
    torch.testing.assert_close(found, gradients(lambda: call(x), net))
    assert any(g.abs().max() > 1e-3 for g in found)


@pytest.mark.skipif(
    torch.__version__.startswith("2.6."), reason="Dynamo of torch 2.6 breaks the graph at a Place"
)
def test_a_checkpoint_in_a_compiled_network_is_right():
    net = pyfront.HyperNetwork(Checkpointed(False), 2, plain=True, parameters=["inner.*", "head.*"])
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x, p = torch.randn(4, 8), torch.tensor([1.0, 3.0])
    found = gradients(lambda: compiled(x, preference=p), net)
    net.model.reentrant = None
    torch.testing.assert_close(found, gradients(lambda: net(x, preference=p), net))


@REENTRANT
def test_generated_models_may_checkpoint(reentrant):
    torch.manual_seed(0)
    model, x = Checkpointed(reentrant), torch.randn(4, 8, requires_grad=True)
    seen = []
    model.inner.register_forward_pre_hook(lambda module, args: seen.append(len(args)))
    net = pyfront.HyperNetwork(model, 2, plain=True)
    plain = net.generate([1, 3])
    found = gradients(lambda: plain(x), plain)
    assert seen == [1, 1]  # the model's own hooks remain: once forward, once again
    plain.reentrant = None
    torch.testing.assert_close(found, gradients(lambda: plain(x), plain))
    hooks = [hook for module in plain.modules() for hook in module._forward_pre_hooks.values()]
    assert len(hooks) == 1


def test_a_switched_network_has_gradients_to_its_input():
    net = pyfront.HyperNetwork(Checkpointed(None), 2, plain=True)
    net.switch([1, 3])
    x = torch.randn(4, 8, requires_grad=True)
    (found,) = torch.autograd.grad(net(x).sum(), x)
    torch.testing.assert_close(found, torch.autograd.grad(net.generate([1, 3])(x).sum(), x)[0])

"""Which parameters are generated, and that they start at the scale of the module's own values."""

import copy
import math

import pytest
import torch
from torch import nn

import pyfront
from pyfront.hypernetwork.parameters import start

PREFERENCES = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [1.0, 1.0, 1.0], [0.1, 0.2, 0.7]]

MODULES = {
    "linear": lambda: nn.Linear(64, 48),
    "conv": lambda: nn.Conv2d(8, 16, 5),
    "embedding": lambda: nn.Embedding(60, 32),
    "attention": lambda: nn.MultiheadAttention(32, 4),
    "lstm": lambda: nn.LSTM(16, 24),
    "batch norm": lambda: nn.Sequential(nn.Linear(40, 40), nn.BatchNorm1d(40)),
    "layer norm": lambda: nn.Sequential(nn.Linear(40, 40), nn.LayerNorm(40)),
}


@pytest.mark.parametrize("plain", [False, True], ids=["chunked", "plain"])
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES.keys())
def test_the_start_has_the_variance_of_the_modules_own_for_every_preference(make, plain):
    ratios = {}  # of mean squares, over 12 hypernetworks of fresh modules
    for seed in range(12):
        torch.manual_seed(seed)
        model = make()
        own = dict(model.named_parameters())
        net = pyfront.HyperNetwork(model, 3, plain=plain, size=3.0)
        for index, p in enumerate(PREFERENCES):
            for name, value in net.parameters_at(p).items():
                if own[name].std() == 0.0:
                    assert torch.equal(value, own[name])
                else:
                    ratio = value.square().mean() / own[name].square().mean()
                    ratios.setdefault((name, index), []).append((ratio.item(), value.numel()))
    for key, found in ratios.items():
        values = torch.tensor([ratio for ratio, _ in found])
        # chunks share a projection: fewer independent numbers than entries
        noise = 4.0 * values.std().item() / math.sqrt(len(values))
        assert abs(values.mean().item() - 1.0) < max(noise, 0.05), key
        if found[0][1] > 1000:
            assert abs(values.mean().item() - 1.0) < 0.1 and noise < 0.2, key


def test_outputs_start_as_large_as_the_models_own():
    x = torch.randn(200, 64)
    sizes = {"own": [], "ends": [], "middle": []}
    for _ in range(10):
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
        net = pyfront.HyperNetwork(model, 2)
        sizes["own"].append(model(x).std())
        sizes["ends"] += [y.std() for y in net(x, preference=torch.eye(2))]
        sizes["middle"].append(net(x, preference=[0.5, 0.5]).std())
    own, ends, middle = (torch.stack(s).mean().item() for s in sizes.values())
    assert 0.7 < ends / own < 1.4 and 0.7 < middle / own < 1.4


def test_the_start_of_a_tensor():
    assert start(torch.ones(7)) == (1.0, 1.0, 0.0)
    assert start(torch.zeros(7)) == (0.0, 1.0, 0.0)
    assert start(torch.tensor(3.0)) == (3.0, 1.0, 0.0)
    values = torch.randn(1000)
    mean, scale, gain = start(values)
    assert mean == 0.0 and gain == 1.0
    assert scale == pytest.approx(values.square().mean().sqrt().item(), rel=1e-6)
    mean, scale, gain = start(values + 5.0)
    assert mean == pytest.approx(5.0 + values.mean().item(), rel=1e-5) and gain == 1.0
    assert scale == pytest.approx(values.std().item(), rel=1e-5)


def test_constant_tensors_are_trained_from_the_first_steps():
    model = nn.Sequential(nn.Linear(20, 20), nn.LayerNorm(20))
    net = pyfront.HyperNetwork(model, 2, size=2.0)
    opt = torch.optim.Adam(net.parameters(), lr=1e-2)
    x = torch.randn(30, 20)
    for _ in range(3):
        opt.zero_grad()
        (net(x, preference=[0.3, 0.7]) - x.cos()).square().mean().backward()
        opt.step()
    found = net.parameters_at([0.3, 0.7])
    assert not torch.equal(found["1.weight"], torch.ones(20))
    assert found["1.weight"].std() > 0.0 and found["1.bias"].std() > 0.0


@pytest.mark.parametrize("module", [nn.Embedding, nn.EmbeddingBag])
def test_padding_rows_stay_as_they_are(module):
    net = pyfront.HyperNetwork(module(30, 16, padding_idx=4), 2, size=2.0)
    weights = net.parameters_at([0.2, 0.8])["weight"]
    assert not weights[4].any() and weights.std(dim=1).count_nonzero() == 29
    assert not net.generate([0.2, 0.8]).weight[4].any()


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(24, 24)
        self.heads = nn.ModuleList(nn.Linear(24, 12) for _ in range(2))
        self.register_parameter("step", nn.Parameter(torch.tensor(3), requires_grad=False))

    def forward(self, x):
        return [head(torch.relu(self.trunk(x))) for head in self.heads]


def generated(**options):
    return list(pyfront.HyperNetwork(Branches(), 2, plain=True, **options).parameters_at([1, 1]))


def test_patterns_select():
    heads = ["heads.0.weight", "heads.0.bias", "heads.1.weight", "heads.1.bias"]
    assert generated() == ["trunk.weight", "trunk.bias", *heads]  # not the frozen integer
    assert generated(parameters="heads.*") == heads
    assert generated(parameters=["*.1.bias", "trunk.bias"]) == ["trunk.bias", "heads.1.bias"]


@pytest.mark.parametrize(
    ("patterns", "error", "message"),
    [
        ("decoder.*", ValueError, "parameters: 'decoder.*' matches no parameter; there are step"),
        (["heads.*", "x"], ValueError, "parameters: 'x' matches no parameter"),
        ([], ValueError, "parameters: expected at least one pattern"),
        ("step", TypeError, "step: cannot be generated: torch.int64"),
        (3, TypeError, "parameters: expected a pattern or a list of them, got 3"),
        (["heads.*", 3], TypeError, r"parameters\[1\]: expected a pattern, got 3"),
    ],
)
def test_patterns_that_cannot_be_used(patterns, error, message):
    with pytest.raises(error, match=message.replace("*", r"\*")):
        pyfront.HyperNetwork(Branches(), 2, parameters=patterns)


def test_modules_that_cannot_be_wrapped():
    with pytest.raises(ValueError, match="weight: is not initialised"):
        pyfront.HyperNetwork(nn.LazyLinear(3), 2)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        pyfront.HyperNetwork(nn.ReLU(), 2)
    with pytest.raises(TypeError, match="expected a torch.nn.Module, got function"):
        pyfront.HyperNetwork(lambda x: x, 2)
    with pytest.raises(ValueError, match="weight: has no values, it is on the meta device"):
        pyfront.HyperNetwork(nn.Linear(3, 3, device="meta"), 2)
    with pytest.raises(TypeError, match=r"complex64"):
        model = nn.Linear(3, 3, dtype=torch.complex64)
        pyfront.HyperNetwork(model, 2)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_sparse_gradients_end_at_parameters_and_are_refused(kind):
    model = nn.Sequential(kind(9, 4, sparse=True), nn.Linear(4, 2))
    with pytest.raises(TypeError, match=r"^0: has sparse gradients \(sparse=True\)"):
        pyfront.HyperNetwork(model, 2, plain=True)
    net = pyfront.HyperNetwork(model, 2, parameters="1.*", plain=True)
    net(torch.tensor([[1], [2]]), preference=[0.5, 0.5]).sum().backward()
    assert net.model[0].weight.grad.is_sparse


def test_a_table_that_is_tied_to_a_dense_layer_is_generated():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(2, 5, bias=False)
            self.table = nn.Embedding(5, 2, sparse=True)
            self.table.weight = self.out.weight

        def forward(self, i):
            return self.out(self.table(i))

    class Pruned(nn.Linear):
        sparse = True  # of its own meaning

    net = pyfront.HyperNetwork(Tied(), 2, plain=True)
    net(torch.tensor([1, 2]), preference=[0.5, 0.5]).sum().backward()
    pyfront.HyperNetwork(nn.Sequential(Pruned(3, 2)), 2, plain=True)


def test_a_torchscript_module_is_refused_by_name():
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 2))
    with pytest.raises(TypeError, match=r"^0: is a TorchScript module"):
        pyfront.HyperNetwork(model, 2, plain=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_that_is_not_finite_is_refused(value):
    model = Branches()
    with torch.no_grad():
        model.heads[1].weight[3, 2] = value
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=rf"heads.1.weight\[3, 2\] = {value}: must be finite"):
        pyfront.HyperNetwork(model, 2, plain=True)
    for name, found in model.state_dict().items():
        torch.testing.assert_close(found, before[name], equal_nan=True, rtol=0, atol=0)
    assert list(model.trunk._forward_pre_hooks) == []
    pyfront.HyperNetwork(model, 2, plain=True, parameters="trunk.*")  # what is shared may be so
    scalar = nn.Module()
    scalar.register_parameter("shift", nn.Parameter(torch.tensor(value)))
    with pytest.raises(ValueError, match=f"shift = {value}: must be finite"):
        pyfront.HyperNetwork(scalar, 2, plain=True)

"""Large layers of a hypernetwork: with the rest of torch, which they are, and their sizes."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from wide_network import P, Wide, X, gradients, network

import pyfront
from pyfront.hypernetwork.generators import ChunkedGenerator

# --------------------------------------------------------------------------- with the rest of torch


def test_autocast_has_whole_weights_in_their_own_precision():
    net = network().float()
    model = net.generate(P)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(X.float(), preference=P), model(X.float()))


def test_other_types_than_the_generators():
    net = network().to(torch.bfloat16)
    x = X.to(torch.bfloat16)
    torch.testing.assert_close(
        net(x, preference=P).float(), net.generate(P)(x).float(), rtol=0.1, atol=0.1
    )
    half = pyfront.HyperNetwork(nn.Linear(4096, 1024), 2).half()
    many = torch.full((2, 4096), 40.0, dtype=torch.float16)  # whose sum overflows
    assert half(many, preference=P).isfinite().all()
    mixed = network()
    mixed.model.float()
    assert torch.equal(mixed(X.float(), preference=P), mixed.generate(P)(X.float()))
    with pytest.raises(RuntimeError, match="dtype"):
        network()(X.float(), preference=P)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        network()(X[:, :9], preference=P)


INPUTS = {
    "sparse": lambda x: x.to_sparse(),
    "compressed": lambda x: x.to_sparse_csr(),
    "jagged": lambda x: torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_are_not_dense(name):
    torch.manual_seed(0)
    net, x = pyfront.HyperNetwork(nn.Linear(512, 520, bias=False).double(), 2), INPUTS[name](X)
    output, expected = net(x, preference=P), net.generate(P)(x)
    parts = (y.unbind() if y.is_nested else y for y in (output, expected))
    torch.testing.assert_close(*parts, rtol=1e-12, atol=1e-12)


def test_a_bias_that_no_linear_layer_has_is_refused():
    for bias in (torch.zeros(2, 5, 520, dtype=torch.float64), torch.zeros(520)):
        net = pyfront.HyperNetwork(nn.Linear(512, 520).double(), 2, parameters="weight")
        net.model.bias = nn.Parameter(bias)
        with pytest.raises(RuntimeError):
            net(X, preference=P)


@pytest.mark.parametrize("preference", [P, [P, [1, 0]]], ids=["one", "several"])
def test_inference_mode(preference):
    net = network()
    expected = net(X, preference=preference)
    with torch.inference_mode():
        torch.testing.assert_close(net(X, preference=preference), expected)
        reading = network(lambda model, x: x @ model.first.weight.T + model.first.bias)
        torch.testing.assert_close(reading(X, preference=P), network()(X, preference=P))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of forward derivatives
def test_transforms_of_functions():
    net = network()
    single = torch.func.vmap(lambda x: net(x, preference=P))(X)
    torch.testing.assert_close(single, net(X, preference=P), rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(X)
    model = net.generate(P)
    found, expected = (
        torch.func.jvp(f, (X,), (direction,))[1] for f in (lambda x: net(x, preference=P), model)
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


class Compiled(Wide):
    @torch.compile(backend="aot_eager")
    def forward(self, x):
        return super().forward(x)


@torch.compile(backend="aot_eager")
def compiled(layer, x):
    return layer(x) + layer.weight.mean()


class Halving(Wide):
    """Writes into a weight in a compiled part."""

    @torch.compile(backend="aot_eager")
    def forward(self, x):
        with torch.no_grad():
            self.first.weight.mul_(0.5)
        return super().forward(x)


def test_what_a_compiled_part_writes_is_refused():
    net = pyfront.HyperNetwork(Halving().double(), 2)
    with pytest.raises(ValueError, match="first.weight: the model's forward changes"):
        net(X, preference=P)


WITH_COMPILED = {
    "function": lambda: Wide(lambda model, x: compiled(model.first, x)),
    "layer": lambda: nn.Sequential(torch.compile(nn.Linear(512, 520), backend="aot_eager")),
    "forward": Compiled,
}


@pytest.mark.parametrize("name", WITH_COMPILED)
def test_a_model_with_compiled_parts(name):
    net = pyfront.HyperNetwork(WITH_COMPILED[name]().double(), 2)
    for p in ([0.3, 0.7], [0.9, 0.1]):
        expected = torch.func.functional_call(net.model, net.parameters_at(p), (X,))
        output = net(X, preference=p)
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            gradients(net, output), gradients(net, expected), rtol=1e-11, atol=1e-11
        )


def test_a_compiled_network():
    whole = not torch.__version__.startswith("2.6.")  # whose Dynamo breaks the graph at a Place
    net = network()
    compiled = torch.compile(net, fullgraph=whole, backend="aot_eager")
    torch.testing.assert_close(
        compiled(X, preference=torch.tensor(P, dtype=torch.float64)),
        net.generate(P)(X),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_checkpoints_of_activations(reentrant):
    def inside(model, x):
        return checkpoint(model.first, x, use_reentrant=reentrant)

    net, x = network(inside), X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=r"^first\..*: is read in the backward pass"):
        net(x, preference=P).sum().backward()
    net = network()
    around = checkpoint(lambda x: net(x, preference=P), x, use_reentrant=reentrant)
    net.zero_grad()
    around.square().sum().backward()
    expected = gradients(net, net(X, preference=P))
    torch.testing.assert_close([p.grad for p in net.parameters()], list(expected))


def test_large_layers_of_a_transformer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(512, 4, 520, dropout=0.0, batch_first=True).double()
    net, x = pyfront.HyperNetwork(layer, 2), X.view(1, 5, 512)
    assert len(net.generator.blocks) == 2  # what attention projects with is of a class of its own
    for mode in (True, False):
        net.train(mode)
        with torch.set_grad_enabled(mode):
            torch.testing.assert_close(
                net(x, preference=P), net.generate(P)(x), rtol=1e-11, atol=1e-11
            )


# --------------------------------------------------------------------------- which, and their sizes


def test_only_a_weight_that_one_linear_layer_has_for_itself():
    torch.manual_seed(0)
    tied = nn.Sequential(nn.Embedding(520, 512), nn.Linear(512, 520))
    tied[1].weight = tied[0].weight
    twice = nn.Linear(520, 520)
    others = {
        "tied": tied,
        "small": nn.Linear(500, 500),
        "embedding": nn.Embedding(520, 512),
        "convolution": nn.Conv2d(64, 512, 3),
        "recurrent": nn.LSTM(300, 300),
        "parametrized": nn.utils.parametrizations.spectral_norm(nn.Linear(512, 520)),
    }
    for name, model in others.items():
        assert len(pyfront.HyperNetwork(model, 2).generator.blocks) == 0, name
    again = pyfront.HyperNetwork(nn.Sequential(twice, nn.Tanh(), twice).double(), 2)
    assert len(again.generator.blocks) == 1
    x = torch.randn(4, 520, dtype=torch.float64)
    torch.testing.assert_close(again(x, preference=P), again.generate(P)(x))


@pytest.mark.parametrize("size", [0.2, 0.5, 1.0, 2.0, 30.0])
def test_sizes_are_met(size):
    model = nn.Sequential(nn.Linear(512, 520), nn.Linear(520, 640), nn.Linear(640, 30))
    net = pyfront.HyperNetwork(model, 2, size=size)
    entries = sum(p.numel() for p in model.parameters())
    count = sum(p.numel() for p in net.parameters())
    assert count <= size * entries
    assert len(net.generator.blocks) == (2 if size > 0.2 else 0)  # a row is too large there
    if size <= 2.0:  # at 30 the small tensors have all that they can use
        assert count > 0.9 * size * entries
    x = torch.randn(3, 512)
    torch.testing.assert_close(net(x, preference=P), net.generate(P)(x), rtol=1e-3, atol=1e-4)


def test_every_size_that_one_projection_allows_is_allowed():
    shapes, found = [(64, 4096), (64,), (512, 520)], []
    for parameters in range(80_000, 260_000, 2_500):
        try:
            ChunkedGenerator.of_size(2, shapes, parameters)
        except ValueError:
            continue
        net = ChunkedGenerator.of_size(2, shapes, parameters, matrices=[0, 2])
        assert sum(p.numel() for p in net.parameters()) <= parameters
        found.append(len(net.blocks))
    assert len(found) > 40 and {0, 1} <= set(found)


def test_nothing_but_large_weights():
    torch.manual_seed(0)
    net = pyfront.HyperNetwork(Wide().double(), 2, parameters="first.weight")
    opt = pyfront.EPO(torch.optim.Adam(net.parameters(), lr=1e-3), [1, 1])
    before = copy.deepcopy(net.state_dict())
    y = net(X, preference=P)
    opt.step([y[:, 0].square().sum(), (y[:, 1] - 1.0).square().sum()], preference=P)
    changed = {name for name, v in net.state_dict().items() if not torch.equal(v, before[name])}
    assert {"generator.blocks.0.projection", "generator.blocks.0.embeddings"} <= changed


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_and_checkpoints(again):
    net = network()
    expected = net(X, preference=P)
    assert torch.equal(again(net)(X, preference=P), expected)
    other = network()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(X, preference=P), expected)
    assert "generator.blocks.0.projection" in net.summary()


def test_the_start_has_the_variance_of_the_layers_own_for_every_preference():
    ratios = []
    for seed in range(6):
        torch.manual_seed(seed)
        model = nn.Linear(512, 520)
        net = pyfront.HyperNetwork(model, 3)
        for p in ([1, 0, 0], [0, 0.5, 0.5], [0.1, 0.2, 0.7]):
            value = net.parameters_at(p)["weight"]
            ratios.append((value.square().mean() / model.weight.square().mean()).item())
            rows = value.square().mean(1) / value.square().mean()
            assert rows.min() > 0.5 and rows.max() < 2.0
    assert abs(sum(ratios) / len(ratios) - 1.0) < 0.03
    assert all(0.8 < ratio < 1.25 for ratio in ratios)

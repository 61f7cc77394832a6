"""HyperNetwork: what it wraps, what it gives, and what it refuses."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

import pyfront


def reloaded(value):
    return pickle.loads(pickle.dumps(value))


def small(**options):
    model = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 6))
    return pyfront.HyperNetwork(model, 2, **{"size": 2.0, **options})


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Embedding(40, 16)
        self.decode = nn.Linear(16, 40)
        self.decode.weight = self.encode.weight

    def forward(self, x):
        return self.decode(self.encode(x))


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(16, 20), nn.Tanh(), nn.Linear(20, 4)), "floats"),
    "conv": (lambda: nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 8, 3)), "floats"),
    "batch norm": (lambda: nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)), "floats"),
    "lstm": (lambda: nn.LSTM(16, 8), "floats"),
    "transformer": (lambda: nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0), "floats"),
    "tied": (Tied, "integers"),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(16, 16)), "floats"),
    "spectral norm by hook": (lambda: spectral_norm(nn.Linear(16, 16)), "floats"),
    "float64": (lambda: nn.Linear(16, 16).double(), "floats"),
    "bfloat16": (lambda: nn.Linear(16, 16).bfloat16(), "floats"),
}


@pytest.mark.parametrize("plain", [False, True], ids=["chunked", "plain"])
@pytest.mark.parametrize("name", MODELS)
def test_the_generated_copy_is_what_the_network_computes(name, plain):
    make, kind = MODELS[name]
    model = make()
    dtype = next(model.parameters()).dtype
    x = torch.randn(6, 16, dtype=dtype) if kind == "floats" else torch.tensor([1, 5, 39])
    first = lambda y: y[0] if isinstance(y, tuple) else y  # noqa: E731
    net = pyfront.HyperNetwork(model, 2, plain=plain, size=4.0)
    first(net(x, preference=[0.2, 0.8])).sum().backward()
    reached = [p.grad is not None for p in net.parameters()]
    assert all(reached) and reached
    net.eval()
    copied = net.generate([0.2, 0.8])
    assert type(copied) is type(model) and not copied.training
    assert torch.equal(first(copied(x)), first(net(x, preference=[0.2, 0.8])))
    own, found = dict(model.named_parameters()), dict(copied.named_parameters())
    assert own.keys() == found.keys()
    for key, p in found.items():
        assert type(p) is nn.Parameter and p.requires_grad and p.grad is None
        assert p.dtype is own[key].dtype and p.shape == own[key].shape
    other = first(net(x, preference=[0.8, 0.2]))
    assert not torch.equal(other, first(copied(x)))


def test_the_model_that_is_given_stays_as_it_is():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    model(torch.randn(3, 8)).sum().backward()
    before = copy.deepcopy(model)
    net = pyfront.HyperNetwork(model, 2, plain=True, parameters="0.*", shared="frozen")
    net(torch.randn(5, 8), preference=[1, 2])
    net.switch([1, 0])
    for (name, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(p, q) and p.requires_grad and p.grad is not None, name
    assert torch.equal(model[1].running_mean, before[1].running_mean)


def test_what_is_trained():
    x = torch.randn(5, 24)
    net = small(parameters="2.*")
    names = [name for name, _ in net.named_parameters() if name.startswith("model.")]
    assert names == ["model.0.weight", "model.0.bias"]
    assert sum(p.numel() for p in net.parameters()) == 600 + sum(
        p.numel() for name, p in net.named_parameters() if not name.startswith("model.")
    )
    frozen = small(parameters="2.*", shared="frozen")
    frozen(x, preference=[0.5, 0.5]).sum().backward()
    assert frozen.model[0].weight.grad is None and frozen.gains.grad is not None
    assert not frozen.generate([0.5, 0.5])[0].weight.requires_grad
    assert frozen.generate([0.5, 0.5])[2].weight.requires_grad


def test_what_can_change_a_frozen_trunk():
    trunk = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    model = nn.Sequential(trunk, nn.Linear(8, 2))
    net = pyfront.HyperNetwork(model, 2, plain=True, parameters="1.*", shared="frozen")
    around, x = nn.Sequential(net), 3.0 + torch.randn(20, 8)
    statistics = net.model[0][1].running_mean
    net.model[0].eval()
    net(x, preference=[1, 1])
    assert not statistics.any()
    around.train()
    net(x, preference=[1, 1])
    assert statistics.any()

    assert not any(p.requires_grad for p in net.model.parameters())
    net.requires_grad_(True)
    assert [p.requires_grad for p in net.model.parameters()] == [True] * 4 + [False] * 2
    net.model[0].requires_grad_(False)
    around.requires_grad_(True)
    assert all(p.requires_grad for p in net.model.parameters())
    opt = torch.optim.AdamW(around.parameters(), lr=0.1, weight_decay=0.1)
    net.switch([1, 2])
    before = [p.detach().clone() for p in net.replaced().values()]
    net(x, preference=[1, 1]).sum().backward()
    opt.step()
    for place, value in zip(net.replaced().values(), before, strict=True):
        assert place.grad is None and torch.equal(place, value)


def test_only_the_direction_of_a_preference_counts():
    net, x = small(), torch.randn(3, 24)
    y = net(x, preference=[0.7, 0.3])
    for same in ([7, 3], torch.tensor([0.7, 0.3]), torch.tensor([7, 3]), [7e200, 3e200]):
        torch.testing.assert_close(net(x, preference=same), y, rtol=1e-4, atol=1e-5)
    assert net(x, preference=[1, 0]).isfinite().all()


@pytest.mark.parametrize(
    ("preference", "error", "message"),
    [
        ([0.2, 0.3, 0.5], ValueError, "preference: expected 2 values, one per task, got 3"),
        ([1.1, -0.1], ValueError, r"preference\[1\] = -0.1"),
        ([float("nan"), 1.0], ValueError, r"preference\[0\] = nan"),
        ([0.0, 0.0], ValueError, "preference: at least one entry must be > 0"),
        ([[1.0, 0.0], [0.5, -0.5]], ValueError, r"preference\[1\]\[1\] = -0.5"),
        ("even", TypeError, "preference: expected real numbers"),
        ([0.5, None], TypeError, "preference: expected real numbers"),
        ([[0.7], [0.3, 0.2]], ValueError, "preference: expected real numbers in a regular shape"),
        (None, ValueError, r"preference: give one, or call switch"),
    ],
)
def test_preferences_that_are_none(preference, error, message):
    net = small()
    with pytest.raises(error, match=message):
        net(torch.zeros(1, 24), preference=preference)


def test_switching_in_place():
    net, x = small(), torch.randn(3, 24)
    memory = net.model[0].weight.data_ptr()
    for p in ([1, 0], [0, 1]):
        net.switch(p)
        assert torch.equal(net(x), net(x, preference=p)) and torch.equal(net.model(x), net(x))
    assert net.model[0].weight.data_ptr() == memory
    with pytest.raises(ValueError, match=r"preference\[0\] = -1"):
        net.switch([-1, 2])
    assert torch.equal(net(x), net(x, preference=[0, 1]))


@pytest.mark.parametrize("again", [lambda net: net, copy.deepcopy, reloaded])
def test_before_a_switch_the_model_computes_nothing(again):
    net, x = again(small(parameters="2.bias", plain=True)), torch.randn(3, 24)
    assert net.model(x).isnan().all()
    assert net(x, preference=[1, 0]).isfinite().all()
    model = net.generate([1, 0])
    assert all(type(p) is nn.Parameter and p.isfinite().all() for p in model.parameters())
    net.switch([1, 0])
    assert torch.equal(net.model(x), model(x)) and torch.equal(again(net)(x), model(x))


def test_the_layout_of_memory_is_kept():
    model = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    net = pyfront.HyperNetwork(model, 2, plain=True)
    net.switch([1, 2])
    for copied in (net.model, net.generate([1, 2])):
        assert copied.weight.stride() == model.weight.stride() != torch.empty(4, 3, 2, 2).stride()


@pytest.mark.parametrize("plain", [False, True], ids=["chunked", "plain"])
def test_autocast_changes_the_main_network_alone(plain):
    net, x = small(plain=plain), torch.randn(3, 24)
    expected, model = net.parameters_at([1, 3]), net.generate([1, 3])
    with torch.autocast("cpu", torch.bfloat16):
        found, inside = net.parameters_at([1, 3]), dict(net.generate([1, 3]).named_parameters())
        net.switch([1, 3])
        y = net(x, preference=[1, 3])
        assert y.dtype is torch.bfloat16
        assert torch.equal(y, model(x)) and torch.equal(net(x), model(x))
    for name, value in expected.items():
        for same in (found[name], inside[name], net.model.get_parameter(name)):
            assert torch.equal(same, value)


def test_several_preferences_keep_batch_statistics_apart():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    net = pyfront.HyperNetwork(model, 2, plain=True)
    x = 3.0 + torch.randn(20, 8)
    preferences = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.1, 0.9]])
    before = {name: b.clone() for name, b in net.model.named_buffers()}
    together = net(x, preference=preferences)
    assert all(torch.equal(b, before[name]) for name, b in net.model.named_buffers())
    for p, y in zip(preferences, together, strict=True):
        torch.testing.assert_close(y, net.generate(p)(x), rtol=1e-4, atol=1e-5)
    net(x, preference=preferences[0])
    assert net.model[1].num_batches_tracked == 1  # one preference: the model's own buffers


@pytest.mark.parametrize("make", [small, lambda: small(parameters="2.*"), lambda: tied()])
def test_a_checkpoint_holds_what_is_trained(make):
    torch.manual_seed(1)
    net = make()
    x = torch.tensor([3, 4]) if isinstance(net.model, Tied) else torch.randn(4, 24)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    trained = {name for name, _ in net.named_parameters()}
    assert set(state) == trained | {"means", "scales"}
    torch.manual_seed(2)
    other = make()
    other.model.load_state_dict({**other.model.state_dict(), **_shared(state)})
    assert not torch.equal(net(x, preference=[1, 3]), other(x, preference=[1, 3]))
    assert other.load_state_dict(state).missing_keys == []
    assert torch.equal(net(x, preference=[1, 3]), other(x, preference=[1, 3]))
    nested = nn.ModuleDict({"inner": other})
    nested.load_state_dict(nested.state_dict())
    for again in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert torch.equal(net(x, preference=[1, 3]), again(x, preference=[1, 3]))


def test_assigning_a_checkpoint_keeps_ties_and_places():
    net = tied()
    places = net.replaced()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    before = net.parameters_at([1, 3])
    with torch.no_grad():
        net.gains.zero_()
    net.load_state_dict(state, assign=True)
    assert net.model.decode.weight is net.model.encode.weight
    assert all(net.replaced()[name] is place for name, place in places.items())
    x = torch.tensor([1, 2, 3])
    torch.testing.assert_close(net.parameters_at([1, 3]), before)
    assert torch.equal(net.generate([1, 3])(x), net(x, preference=[1, 3]))


@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
def test_a_checkpoint_holds_padding_rows(assign):
    def make(value):
        model = nn.Sequential(nn.Embedding(20, 6, padding_idx=4), nn.Linear(6, 20))
        model.append(nn.Unflatten(1, (4, 5))).append(nn.Embedding(9, 3, padding_idx=-1))
        with torch.no_grad():
            model[0].weight[4] = value
            model[3].weight[-1] = value + torch.arange(3)
        return pyfront.HyperNetwork(model, 2, plain=True, parameters=["0.*", "3.*"])

    net, other = make(2.5), make(-1.0)
    assert not other.parameters_at([1, 3])["0.weight"][4].eq(2.5).any()
    other.load_state_dict(net.state_dict(), assign=assign)
    found, expected = other.parameters_at([1, 3]), net.parameters_at([1, 3])
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    model = other.generate([1, 0])
    assert model[0].weight[4].eq(2.5).all() and model[3].weight[-1].tolist() == [2.5, 3.5, 4.5]
    other.switch([1, 0])
    assert torch.equal(other.model[3].weight, model[3].weight)


def _shared(state):
    return {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}


def tied():
    return pyfront.HyperNetwork(Tied(), 2, size=2.0, parameters="decode.weight")


def test_tied_parameters_stay_tied_whichever_name_matches():
    net, x = tied(), torch.tensor([1, 2, 3])
    assert list(net.parameters_at([1, 1])) == ["encode.weight"]
    assert [n for n, _ in net.named_parameters() if n.startswith("model")] == ["model.decode.bias"]
    model = net.generate([1, 1])
    assert model.decode.weight is model.encode.weight
    assert torch.equal(model(x), net(x, preference=[1, 1]))


@pytest.mark.parametrize("size", [0.5, 1.0, 3.0])
def test_the_size_is_met_and_the_summary_says_so(size):
    net = pyfront.HyperNetwork(nn.Sequential(nn.Linear(200, 100), nn.Linear(100, 10)), 3, size=size)
    entries = 200 * 100 + 100 + 100 * 10 + 10
    count = sum(p.numel() for p in net.parameters())
    assert 0.97 * size < count / entries <= size
    text = net.summary()
    assert f"{entries:,} generated, 0 shared, 0 frozen, {count:,} φ" in text
    parts = ("task_embeddings", "chunk_embeddings", "projection", "features.0.weight")
    for name in ("0.weight", "1.bias", *(f"generator.{part}" for part in parts)):
        assert sum(line.startswith(name) for line in text.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0.01}, ValueError, "size: .* too few for a chunked hypernetwork"),
        ({"size": float("nan")}, ValueError, "size = nan"),
        ({"size": "big"}, TypeError, "size: expected a number"),
        ({"size": "big", "plain": True}, TypeError, "size: expected a number"),
        ({"hidden": 5}, TypeError, "hidden: expected a list of widths, got 5"),
        ({"hidden": []}, ValueError, "hidden: expected at least one width"),
        ({"hidden": [8, 0]}, ValueError, r"hidden\[1\] = 0"),
        ({"embedding": 0}, ValueError, "embedding = 0"),
        ({"embedding": 8, "plain": True}, ValueError, "embedding: a plain"),
        ({"shared": "lost"}, ValueError, "shared = 'lost'"),
        ({"plain": "no"}, TypeError, "plain: expected True or False, got 'no'"),
        ({"plain": 1}, TypeError, "plain: expected True or False, got 1"),
    ],
)
def test_options_out_of_range(options, error, message):
    with pytest.raises(error, match=message):
        small(**options)
    with pytest.raises(ValueError, match="num_tasks = 1"):
        pyfront.HyperNetwork(nn.Linear(3, 3), 1)


def test_layers_of_a_chosen_size():
    net = small(embedding=5, hidden=(7, 6, 9), size=3.0)
    assert net.generator.task_embeddings.shape == (2, 5)
    assert net.generator.projection.shape[1] == 9
    assert small(plain=True, hidden=(11,)).generator.projection.weight.shape[1] == 11


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_generated_model_compiles_and_exports():
    net, x = small(), torch.randn(3, 24)
    model = net.generate([0.4, 0.6]).eval()
    expected = model(x)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), expected)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    whole = not torch.__version__.startswith("2.6.")  # whose Dynamo breaks the graph at a Place
    both = torch.compile(net, fullgraph=whole, backend="aot_eager")
    torch.testing.assert_close(both(x, preference=torch.tensor([0.4, 0.6])), expected)

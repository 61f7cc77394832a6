"""Nonsense raises an error that names it, and nothing has changed when it does."""

import copy
import math

import pytest
import torch

import pyfront
from pyfront import EPO, MGDA, LinearScalarization

X = torch.linspace(-1, 1, 30).reshape(6, 5)


def epo(params):
    return EPO(torch.optim.SGD(params, lr=0.1, momentum=0.9), [0.7, 0.3])


def mgda(params):
    return MGDA(torch.optim.SGD(params, lr=0.1, momentum=0.9))


def linear(params):
    return LinearScalarization(torch.optim.SGD(params, lr=0.1, momentum=0.9), [0.7, 0.3])


def negative(model):
    a, b = model.losses(X)
    return [a, b - 100]


def nan(model):
    a, b = model.losses(X)
    return [a, b * math.nan]


def infinite(model):
    a, b = model.losses(X)
    return [a * math.inf, b]


def not_scalar(model):
    return [model.losses(X)[0], model(X)[1]]


def no_graph(model):
    a, b = model.losses(X)
    return [a, b.detach()]


def freed(model):
    a, b = model.losses(X)
    torch.autograd.grad(b, list(model.heads[1].parameters()))
    return [a, b]


def no_parameter(model):
    return [model.losses(X)[0], torch.ones((), requires_grad=True) * 2]


def a_number(model):
    return [model.losses(X)[0], 1.0]


def not_a_list(model):
    return set(model.losses(X))


def too_few(model):
    return model.losses(X)[:1]


def none(model):
    return []


CASES = [
    (negative, [epo], ValueError, r"losses\[1\] = -9.*offset"),
    (nan, [epo, mgda, linear], ValueError, r"losses\[1\] = nan"),
    (infinite, [epo, mgda, linear], ValueError, r"losses\[0\] = inf"),
    (not_scalar, [epo, mgda, linear], ValueError, r"losses\[1\].*scalar.*\[6, 2\]"),
    (no_graph, [epo, mgda, linear], ValueError, r"losses\[1\] = .*no graph"),
    (freed, [epo, mgda], ValueError, r"losses\[\d\].*freed"),
    (freed, [linear], ValueError, r"losses.*freed"),
    (no_parameter, [epo, mgda], ValueError, r"losses\[1\].*reaches no parameter"),
    (a_number, [epo, mgda, linear], TypeError, r"losses\[1\].*float"),
    (not_a_list, [epo, mgda, linear], TypeError, r"losses.*set"),
    (too_few, [epo, linear], ValueError, "expected 2, one per entry of preference, got 1"),
    (none, [epo, mgda, linear], ValueError, "at least one loss"),
]
FLAT = [
    pytest.param(case, make, error, message, id=f"{case.__name__}-{make.__name__}")
    for case, makers, error, message in CASES
    for make in makers
]


@pytest.mark.parametrize("call", ["step", "backward"])
@pytest.mark.parametrize(("case", "make", "error", "message"), FLAT)
def test_bad_losses_change_nothing(two_heads, case, make, error, message, call):
    opt = make(two_heads.parameters())
    opt.step(two_heads.losses(X))
    state = copy.deepcopy(opt.state_dict())
    params = [p.detach().clone() for p in two_heads.parameters()]
    grads = [p.grad for p in two_heads.parameters()]
    copies = [g.clone() for g in grads]
    losses = case(two_heads)
    with pytest.raises(error, match=message):
        getattr(opt, call)(losses)
    for p, old, g, values in zip(two_heads.parameters(), params, grads, copies, strict=True):
        assert torch.equal(p, old) and p.grad is g and torch.equal(g, values)
    assert_same(opt.state_dict(), state)


def assert_same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_losses_used_in_two_steps_are_explained(two_heads):
    for make in (epo, mgda, linear):
        opt = make(two_heads.parameters())
        losses = two_heads.losses(X)
        opt.step(losses)
        with pytest.raises(ValueError, match=r"losses.*compute the losses anew"):
            opt.step(losses)


def test_a_gradient_that_is_not_finite_names_its_task(two_heads):
    p = torch.nn.Parameter(torch.zeros(2))
    opt = MGDA(torch.optim.SGD([p], lr=0.1))
    with pytest.raises(ValueError, match=r"losses\[1\] = 0: its gradient is not finite"):
        opt.step([(p**2).sum(), p.norm() * 0 + p.abs().sqrt().sum()])
    assert p.grad is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0.5, 0.0], r"preference\[1\] = 0"),
        ([-0.5, 1.0], r"preference\[0\] = -0.5"),
        ([0.5, math.nan], r"preference\[1\] = nan"),
        ([math.inf, 1.0], r"preference\[0\] = inf"),
        ([[0.5, 0.5]], r"preference.*\[1, 2\]"),
        ([], "preference"),
    ],
)
def test_bad_preferences_of_epo(two_heads, value, message):
    base = torch.optim.SGD(two_heads.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=message):
        EPO(base, value)
    opt = EPO(base, [0.5, 0.5])
    with pytest.raises(ValueError, match=message):
        opt.backward(two_heads.losses(X), preference=value)
    with pytest.raises(ValueError, match="preference"):
        opt.preference = value
    assert opt.preference.tolist() == [0.5, 0.5]
    assert all(p.grad is None for p in two_heads.parameters())


def test_preference_of_the_wrong_type(two_heads):
    base = torch.optim.SGD(two_heads.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="preference.*real"):
        EPO(base, ["a", "b"])
    with pytest.raises(TypeError, match="preference"):
        EPO(base, None)
    with pytest.raises(ValueError, match=r"expected 3, one per entry of preference, got 2"):
        EPO(base, [1, 1, 1]).backward(two_heads.losses(X))


def test_preferences_of_one_call(two_heads):
    base = torch.optim.SGD(two_heads.parameters(), lr=0.1)
    opts = [EPO(base, [1, 1]), pyfront.PreferenceFeedback(base, [1, 1])]
    tensors = [torch.ones(()), torch.ones((), requires_grad=True)]
    for opt in opts:
        for value in ([[0.7], [0.3, 0.2]], "even", [0.5, None], [[0.5, 0.5], None], tensors):
            with pytest.raises((TypeError, ValueError), match="^preference: expected real numbers"):
                opt.step(two_heads.losses(X), preference=value)
    for opt, value, entries in ((opts[0], [1, 2, 3], 3), (opts[1], [[1, 2], [2, 1]], 4)):
        with pytest.raises(ValueError, match=f"^preference: has {entries} entries for 2 losses"):
            opt.step(two_heads.losses(X), preference=value)
    assert all(p.grad is None for p in two_heads.parameters())


def test_linear_scalarization_allows_zeros_but_not_all(two_heads):
    base = torch.optim.SGD(two_heads.parameters(), lr=0.1)
    assert LinearScalarization(base, [0, 1]).preference.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="at least one entry"):
        LinearScalarization(base, [0, 0])
    with pytest.raises(ValueError, match=r"preference\[0\] = -1"):
        LinearScalarization(base, [-1, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "fast"}, "engine = 'fast'"),
        ({"scale": "max"}, "scale = 'max'"),
        ({"gramian_over": "none"}, "gramian_over = 'none'"),
        ({"task_gradients": "x"}, "task_gradients = 'x'"),
        ({"weight_smoothing": 1.0}, "weight_smoothing = 1.0"),
        ({"weight_smoothing": math.nan}, "weight_smoothing = nan"),
        ({"every": 0}, "every = 0"),
        ({"epsilon": -1.0}, "epsilon = -1.0"),
        ({"epsilon": "auto"}, "epsilon = 'auto'"),
        ({"descent": "steep"}, "descent = 'steep'"),
        ({"offset": [0.0, math.nan]}, r"offset\[1\] = nan"),
        ({"unit": [0.0, 1.0]}, r"unit\[0\] = 0"),
    ],
)
def test_bad_options_are_named(two_heads, options, message):
    with pytest.raises(ValueError, match=message):
        EPO(torch.optim.SGD(two_heads.parameters(), lr=0.1), [0.5, 0.5], **options)


def test_bad_bases(two_heads):
    params = list(two_heads.parameters())
    with pytest.raises(TypeError, match="LBFGS"):
        MGDA(torch.optim.LBFGS(params))
    with pytest.raises(TypeError, match=r"base\[0\]: expected a torch.optim.Optimizer, got Param"):
        MGDA(params)
    with pytest.raises(TypeError, match="base.*MGDA"):
        EPO(mgda(params), [0.5, 0.5])
    with pytest.raises(TypeError, match="preference: MGDA takes none"):
        MGDA(torch.optim.SGD(params, lr=0.1), preference=[0.5, 0.5])
    with pytest.raises(ValueError, match="normalization = 'l1'"):
        MGDA(torch.optim.SGD(params, lr=0.1), normalization="l1")


def test_several_processes_are_refused_instead_of_diverging(two_heads, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    opt = mgda(two_heads.parameters())
    with pytest.raises(
        RuntimeError, match="2 processes.*group.WORLD.*process_group=False.*fully_shard"
    ):
        opt.step(two_heads.losses(X))
    assert all(p.grad is None for p in two_heads.parameters())
    opt.process_group = False
    assert opt.step(two_heads.losses(X)).status == "ok"
    opt.process_group = None
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    assert opt.step(two_heads.losses(X)).status == "ok"


def test_cuda_says_why_it_is_not_available():
    found = pyfront.cuda_available()
    assert bool(found) == (found.reason == "")
    if not torch.cuda.is_available():
        assert "CUDA" in found.reason


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda base: pyfront.MGDA(base, weight_smoothing=None), TypeError, "weight_smoothing: ex"),
        (lambda base: pyfront.MGDA(base, weight_smoothing=1.0), ValueError, r"must be in \[0, 1\)"),
        (lambda base: pyfront.GradNorm(base, alpha=None), TypeError, "alpha: expected a number"),
        (
            lambda base: pyfront.GradNorm(base, lr=True),
            TypeError,
            "lr: expected a number, got True",
        ),
        (
            lambda base: pyfront.DynamicWeightAverage(base, temperature="x"),
            TypeError,
            "temperature: expected a number, got 'x'",
        ),
        (
            lambda base: pyfront.ParetoMTL(base, [[1, 0], [0, 1]], 0, epsilon=-1.0),
            ValueError,
            "epsilon = -1.0: must be finite and ≥ 0",
        ),
        (
            lambda base: pyfront.UncertaintyWeighting(base, 2, likelihood=None),
            TypeError,
            "likelihood: expected a word",
        ),
        (
            lambda base: pyfront.PreferenceFeedback(base, [1, 1], proportional=float("nan")),
            ValueError,
            "proportional = nan: must be finite and ≥ 0",
        ),
        (
            lambda base: pyfront.SingleLoopMGDA(base, rate="x"),
            TypeError,
            "rate: .* number, got 'x'",
        ),
        (
            lambda base: pyfront.SingleLoopMGDA(base, rate=1.5),
            ValueError,
            r"rate = 1.5: .*\(0, 1\]",
        ),
        (
            lambda base: pyfront.FERERO(base, rate="x"),
            TypeError,
            "rate: expected a number, got 'x'",
        ),
        (lambda base: pyfront.FERERO(base, equalities=3), TypeError, "equalities: .* pair.* got 3"),
        (lambda base: EPO(base, [1, 1], epsilon=None), TypeError, "epsilon: .* number, got None"),
        (
            lambda base: EPO(base, [1, 1], epsilon=math.nan),
            ValueError,
            "epsilon = nan: must be fin",
        ),
        (lambda base: EPO(base, [1, 1], epsilon=True), TypeError, "epsilon: .* number, got True"),
        (
            lambda base: pyfront.functional.epo_weights([1], [[1]], [1], epsilon="adaptive"),
            TypeError,
            "epsilon: expected a number, got 'adaptive'",
        ),
        (
            lambda base: pyfront.functional.pareto_mtl_weights([1], [[1]], [[1]], 0, epsilon=None),
            TypeError,
            "epsilon: expected a number, got None",
        ),
    ],
)
def test_numbers_that_are_none_are_named(make, error, match):
    base = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(error, match=match):
        make(base)

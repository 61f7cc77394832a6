"""Numbers of a diagnosis against explicit gradients; what it takes, refuses and leaves alone."""

import math
import weakref

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import pyfront

NAMES = ("segmentation", "depth")


def random_batches(count, rows=6):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(rows, 5, generator=generator) for _ in range(count)]


def gradient(loss, params):
    found = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
    pairs = zip(found, params, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def jacobians(model, xs, params):
    """[B, m, n] float64."""
    rows = [[gradient(loss, params) for loss in model.losses(x)] for x in xs]
    return torch.stack([torch.stack(row) for row in rows]).double().numpy()


# -------------------------------------------------------------------------------------- the numbers


def test_numbers_are_those_of_explicit_gradients(two_heads):
    xs = random_batches(5)
    found = pyfront.diagnose([two_heads.losses(x) for x in xs], two_heads.named_parameters())
    trunk = jacobians(two_heads, xs, list(two_heads.trunk.parameters()))
    c = trunk @ trunk.transpose(0, 2, 1)
    lengths = np.sqrt(np.diagonal(c, axis1=1, axis2=2))
    cosines = c / (lengths[:, :, None] * lengths[:, None, :])
    values = np.array([[loss.item() for loss in two_heads.losses(x)] for x in xs])
    close = {"rtol": 1e-5, "atol": 1e-9}
    np.testing.assert_allclose(found.losses, values.mean(0), **close)
    np.testing.assert_allclose(found.gramian, c.mean(0), **close)
    np.testing.assert_allclose(found.norms, np.sqrt((lengths**2).mean(0)), **close)
    np.testing.assert_allclose(found.cosines, cosines.mean(0), **close)
    np.testing.assert_allclose(
        found.cosine_errors, cosines.std(0, ddof=1) / math.sqrt(5), rtol=1e-4, atol=1e-7
    )
    assert found.condition == pytest.approx(np.linalg.cond(c.mean(0)), rel=1e-4)
    assert found.norm_ratio == pytest.approx((found.norms.max() / found.norms.min()).item())
    np.testing.assert_allclose(found.rises, (c.sum(2) < 0).mean(0))
    np.testing.assert_allclose(found.balanced_weights.sum(), 2.0)
    np.testing.assert_allclose(
        found.balanced_weights[0] * found.norms[0], found.balanced_weights[1] * found.norms[1]
    )
    assert found.batches == 5 and found.tasks is None
    assert found.present.tolist() == [1.0, 1.0]


def test_signal_is_the_mean_over_disjoint_pairs_of_batches(two_heads):
    xs = random_batches(6)
    found = pyfront.diagnose([two_heads.losses(x) for x in xs], two_heads.parameters())
    j = jacobians(two_heads, xs, list(two_heads.parameters()))
    for task in range(2):
        pairs = [j[k, task] @ j[k + 1, task] for k in (0, 2, 4)]
        squares = [g @ g for g in j[:, task]]
        assert found.signal[task] == pytest.approx(np.mean(pairs) / np.mean(squares), rel=1e-5)


def test_expected_cosines_come_from_different_batches(two_heads):
    xs = random_batches(6)
    found = pyfront.diagnose([two_heads.losses(x) for x in xs], two_heads.parameters())
    j = jacobians(two_heads, xs, list(two_heads.trunk.parameters()))
    d = np.mean([j[k] @ j[k + 1].T for k in (0, 2, 4)], axis=0)
    lengths = np.sqrt(np.diagonal(d))
    cosine = 0.5 * (d[0, 1] + d[1, 0]) / lengths.prod()
    assert found.expected_cosines[0, 1].item() == pytest.approx(cosine, rel=1e-5)


def test_tasks_that_take_turns_are_compared_across_batches():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    first, second = [3 * x[0], None], [None, 4 * x[0] + 3 * x[1]]
    found = pyfront.diagnose([first, second] * 4, [x])
    assert found.cosines[0, 1].isnan()
    np.testing.assert_allclose(found.expected_cosines, [[1.0, 0.8], [0.8, 1.0]])
    assert found.outcome == "weights" and found.shared == ("0",)


def test_roles_are_those_of_the_model(two_heads):
    frozen = dict(two_heads.named_parameters())
    frozen["trunk.bias"].requires_grad_(False)
    spare = torch.nn.Parameter(torch.ones(3))
    parameters = [*frozen.items(), ("spare", spare)]
    found = pyfront.diagnose(two_heads.losses(random_batches(1)[0]), parameters)
    assert found.shared == ("trunk.weight",)
    assert found.task_specific == tuple((f"heads.{k}.weight", f"heads.{k}.bias") for k in range(2))
    assert found.unreached == ("spare",)


def test_a_parameter_that_a_later_batch_shows_to_be_shared_counts_in_all():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    y = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    batches = [
        [3 * x[0] + y[0], None],
        [None, 4 * x[0] + 2 * x[1]],
        [3 * x[0] + y[0], 4 * x[0] + 2 * x[1]],
    ]
    found = pyfront.diagnose(batches, [x, y])
    assert found.shared == ("0",) and found.task_specific == (("1",), ())
    np.testing.assert_allclose(found.gramian, [[9.0, 12.0], [12.0, 20.0]])
    np.testing.assert_allclose(found.present, [2 / 3, 2 / 3])
    np.testing.assert_allclose(found.signal, [1.0, 1.0])


def test_signal_of_orthogonal_noise_is_its_share_of_the_squares():
    x = torch.nn.Parameter(torch.zeros(9, dtype=torch.float64))
    found = pyfront.diagnose([[3 * x[0] + 4 * x[b + 1], x[0]] for b in range(8)], [x])
    np.testing.assert_allclose(found.signal, [9 / 25, 1.0])
    assert found.at_floor == ()


def test_the_cost_is_that_of_this_model(two_heads):
    found = pyfront.diagnose(two_heads.losses(random_batches(1)[0]), two_heads.parameters())
    trunk, heads = 5 * 7 + 7, [7 * 3 + 3, 7 * 2 + 2]
    numbers = 2 * trunk + sum(heads)  # a gradient takes no memory where it is None
    costs = {cost.needs: cost for cost in found.costs}
    assert costs["losses"].passes == 1 and costs["losses"].gradient_bytes == 0
    assert costs["gramian"].passes == 2 and costs["gramian"].gradient_bytes == 4 * numbers
    assert costs["products"].gradient_bytes == 2 * numbers
    names = {name for cost in found.costs for name in cost.methods}
    assert names == set(pyfront.methods.__all__)
    assert all(
        getattr(pyfront, name).needs == cost.needs for cost in found.costs for name in cost.methods
    )


# ------------------------------------------------------------------------------- what may be given


def from_a_list(model, xs):
    return [model.losses(x) for x in xs]


def from_tensors(model, xs):
    return (torch.stack(model.losses(x)) for x in xs)


def from_dicts(model, xs):
    return (dict(zip(NAMES, model.losses(x), strict=True)) for x in xs)


def from_calls(model, xs):
    source = iter(xs)
    return lambda: model.losses(next(source))


@pytest.mark.parametrize("given", [from_a_list, from_tensors, from_dicts, from_calls])
def test_batches_may_be_given_in_any_form(two_heads, given):
    xs = random_batches(4)
    want = pyfront.diagnose((two_heads.losses(x) for x in xs), two_heads.parameters())
    made = given(two_heads, xs)
    with torch.no_grad():  # gradients are enabled where a generator or a call makes losses
        found = pyfront.diagnose(made, two_heads.parameters(), batches=4)
    assert torch.equal(found.gramian, want.gramian)
    assert torch.equal(found.cosine_errors, want.cosine_errors)
    assert torch.equal(found.signal, want.signal)
    assert found.outcome == want.outcome


def test_one_batch_may_be_given_in_any_form(two_heads):
    x = random_batches(1)[0]
    losses = two_heads.losses(x)
    found = [
        pyfront.diagnose(given, two_heads.parameters())
        for given in (
            losses,
            tuple(losses),
            torch.stack(losses),
            dict(zip(NAMES, losses, strict=True)),
        )
    ]
    for one in found:
        assert one.batches == 1 and torch.equal(one.gramian, found[0].gramian)
        assert one.cosine_errors.isnan().all() and one.signal.isnan().all()
    assert found[3].tasks == NAMES


def test_no_more_batches_are_drawn_than_asked_for(two_heads):
    x = random_batches(1)[0]
    calls = []

    def draw():
        calls.append(None)
        return two_heads.losses(x)

    assert pyfront.diagnose(draw, two_heads.parameters(), batches=3).batches == 3
    assert len(calls) == 3
    source = iter([two_heads.losses(x) for _ in range(5)])
    assert pyfront.diagnose(source, two_heads.parameters(), batches=2).batches == 2
    assert len(list(source)) == 3


def test_one_graph_at_a_time_is_alive(two_heads):
    alive = []

    def draw():
        assert all(ref() is None for ref in alive)
        losses = two_heads.losses(torch.randn(4, 5))
        alive.extend(weakref.ref(loss) for loss in losses)
        return losses

    pyfront.diagnose(draw, two_heads.parameters(), batches=3)
    assert len(alive) == 6


def test_nothing_is_touched_and_the_graph_is_kept(two_heads):
    params = list(two_heads.parameters())
    for k, p in enumerate(params[:3]):
        p.grad = torch.full_like(p, k)
    before = [(p.detach().clone(), None if p.grad is None else p.grad.clone()) for p in params]
    losses = two_heads.losses(random_batches(1)[0])
    pyfront.diagnose(losses, params)
    for p, (value, grad) in zip(params, before, strict=True):
        assert torch.equal(p, value)
        assert p.grad is None if grad is None else torch.equal(p.grad, grad)
    sum(losses).backward()


def test_reentrant_checkpoints_are_seen_through(two_heads):
    x = random_batches(1)[0]
    want = pyfront.diagnose(two_heads.losses(x), two_heads.parameters())
    x = x.requires_grad_()
    z = checkpoint(lambda x: torch.tanh(two_heads.trunk(x)), x, use_reentrant=True)
    losses = [(head(z) ** 2).mean() for head in two_heads.heads]
    found = pyfront.diagnose(losses, two_heads.parameters())
    np.testing.assert_allclose(found.gramian, want.gramian, rtol=1e-6)
    assert all(p.grad is None for p in two_heads.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_other_dtypes(dtype):
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=dtype))
    real = (lambda t: t.real) if dtype.is_complex else (lambda t: t)
    found = pyfront.diagnose([real(x[0]), real(x[0]) + 2 * real(x[1])], [x])
    np.testing.assert_allclose(found.gramian, [[1.0, 1.0], [1.0, 5.0]])


def test_sparse_gradients():
    table = torch.nn.Embedding(10, 2, sparse=True)
    batches = [
        [table(torch.tensor([1, 2])).sum(), table(torch.tensor([2, 3])).sum()] for _ in range(3)
    ]
    found = pyfront.diagnose(batches, table.parameters())
    np.testing.assert_allclose(found.gramian, [[4.0, 2.0], [2.0, 4.0]])
    exact = found.costs[-1]
    assert exact.gradient_bytes == 2 * (2 * 2 * 4 + 2 * 8)  # two rows of two floats, two indices
    np.testing.assert_allclose(found.signal, [1.0, 1.0])


# ---------------------------------------------------------------------------------- what is refused


def two_losses(model):
    return model.losses(torch.ones(2, 5))


def named(first, second):
    return lambda model: dict(zip("ab", [first(model), second(model)], strict=True))


def first(model):
    return two_losses(model)[0]


def one_less(model):
    return [two_losses(model), two_losses(model)[:1]]


def no_graph(model):
    return first(model).detach()


def infinite(model):
    return first(model) * math.inf


def steep(model):
    return (first(model) * 0).sqrt()


def elsewhere(model):
    return torch.ones(1, requires_grad=True).sum()


def other_names(model):
    return [{"a": first(model)}, {"b": first(model)}]


@pytest.mark.parametrize(
    "losses, error, message",
    [
        (lambda m: 3, TypeError, "losses: expected losses, batches of them or a callable, got int"),
        (first, ValueError, "losses: expected a list, got one scalar"),
        (lambda m: [], ValueError, "losses: expected at least one loss"),
        (lambda m: iter(()), ValueError, "losses: there is no batch with data"),
        (lambda m: [[None, None]], ValueError, "losses: there is no batch with data"),
        (one_less, ValueError, "losses: expected 2 as in the first batch, got 1 in batch 1"),
        (other_names, ValueError, r"losses\['b'\]: is no task"),
        (named(first, no_graph), ValueError, r"losses\['b'\] = .*no graph"),
        (named(first, infinite), ValueError, r"losses\['b'\] = inf: must be finite"),
        (named(first, steep), ValueError, r"losses\['b'\]: its gradient is not finite"),
        (named(first, elsewhere), ValueError, r"losses\['b'\]: the graph reaches no parameter"),
    ],
)
def test_bad_losses(two_heads, losses, error, message):
    with pytest.raises(error, match=message):
        pyfront.diagnose(losses(two_heads), two_heads.parameters())
    assert all(p.grad is None for p in two_heads.parameters())


@pytest.mark.parametrize(
    "parameters, error, message",
    [
        (lambda m: m.trunk.weight, TypeError, "parameters: expected an iterable, got Parameter"),
        (lambda m: [m.trunk], TypeError, r"parameters\[0\]: expected a tensor, got Linear"),
        (lambda m: [], ValueError, "parameters: none of them requires a gradient"),
        (lambda m: [torch.ones(2)], ValueError, "parameters: none of them requires a gradient"),
    ],
)
def test_bad_parameters(two_heads, parameters, error, message):
    with pytest.raises(error, match=message):
        pyfront.diagnose(two_losses(two_heads), parameters(two_heads))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"batches": 0}, ValueError, "batches = 0: must be at least 1"),
        ({"batches": 2.5}, TypeError, "batches: expected an integer"),
        ({"overlap": 1.5}, ValueError, r"overlap = 1.5: must be in \[0, 1\]"),
        ({"overlap": "half"}, TypeError, "overlap: expected a number"),
    ],
)
def test_bad_options(two_heads, options, error, message):
    with pytest.raises(error, match=message):
        pyfront.diagnose(two_losses(two_heads), two_heads.parameters(), **options)

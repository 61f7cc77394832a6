"""Linear weights beside: the same start, batches and steps, in sweeps and walks."""

import functools

import pytest
import sweep_cases
import torch

import pyfront
from pyfront import LinearScalarization, Solution, SweepError
from pyfront.sweeps.baseline import linear_weights

PREFERENCES = [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]


def sweep(train=sweep_cases.either, preferences=PREFERENCES, *, workers=0, **options):
    return pyfront.sweep(train, preferences, workers=workers, seed=5, progress=False, **options)


@pytest.fixture(scope="module")
def beside():
    return sweep(linear=True)


def test_linear_weights_begin_as_the_method_and_see_the_same_batches(beside):
    alone = sweep()
    plain = sweep(functools.partial(sweep_cases.either, method=LinearScalarization))
    assert [s.method for s in beside] == 3 * ["feedback"] + 3 * ["linear"]
    assert beside[:3] == alone
    for s, other in zip(beside[3:], plain, strict=True):
        assert s.train_losses == other.train_losses and s.metrics == other.metrics
        assert s.preference == other.preference and s.metrics["weight"] == s.preference[0]
    assert [s.metrics["seed"] for s in beside[3:]] == [s.metrics["seed"] for s in alone]
    assert all(a.train_losses != b.train_losses for a, b in zip(beside[3:], alone, strict=True))


def test_the_same_in_two_workers(beside):
    assert sweep(workers=2, linear=True) == beside


def test_the_same_in_a_process_group(beside):
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        group = torch.distributed.group.WORLD
        assert sweep(workers=None, process_group=group, linear=True) == beside
    finally:
        torch.distributed.destroy_process_group()


def test_a_folder_holds_the_method_and_linear_weights_is_added_to_it(tmp_path):
    train = functools.partial(sweep_cases.either, folder=tmp_path)
    kept = {"folder": tmp_path / "kept"}
    sweep(train, **kept)
    front = sweep(train, linear=True, **kept)
    assert sweep(train, linear=True, **kept) == front
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 6 and all("linear_weights" in call for call in calls[3:])


def test_advance_is_passed_on():
    made = []

    def train(preference, advance, *, method=pyfront.PreferenceFeedback):
        advance(7)
        made.append(method)
        return Solution(method="a", preference=preference, train_losses=[1.0, 1.0])

    front = sweep(train, [[0.5, 0.5]], linear=True, steps=7)
    assert made == [pyfront.PreferenceFeedback, linear_weights] and len(front) == 2


def test_weights_sum_to_one_whatever_the_preference():
    x = torch.nn.Parameter(torch.ones(2))
    for r in ([3.0, 1.0], torch.tensor([3.0, 1.0]), {"left": 3.0, "right": 1.0}):
        opt = linear_weights(torch.optim.SGD([x], lr=0.1), r, scale="sum")
        assert opt.preference.tolist() == [0.75, 0.25] and opt.scale == "sum"
    assert opt.tasks == ("left", "right")
    for r in ([0.0, 0.0], {"left": 0.0, "right": 0.0}):
        with pytest.raises(ValueError, match="at least one entry must be > 0"):
            linear_weights(torch.optim.SGD([x], lr=0.1), r)


def test_a_function_without_method_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(TypeError, match=r"it takes \(preference\): write `def train\(preference"):
        sweep(sweep_cases.train, linear=True, folder=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()

    def positional(method, /):
        raise AssertionError

    with pytest.raises(TypeError, match="method=, which makes the optimizer"):
        sweep(positional, linear=True)

    def anything(*arguments, **options):
        return sweep_cases.either(*arguments, **options)

    assert len(sweep(anything, linear=True)) == 6


def test_runs_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"linear=True: \('EPO', \(0.5, 0.5\)\) is no preference"):
        sweep(preferences=[("EPO", (0.5, 0.5))], linear=True)


def test_a_run_that_fails_is_named_as_linear():
    def train(preference, method=pyfront.EPO):
        if method is not pyfront.EPO:
            raise ValueError("not by weights")
        return Solution(method="EPO", preference=preference, train_losses=[1.0, 1.0])

    with pytest.raises(SweepError) as caught:
        sweep(train, [[0.5, 0.5]], linear=True)
    assert [f.preference for f in caught.value.failures] == [("linear", (0.5, 0.5))]
    assert len(caught.value.front) == 1


def walk(preference, start, method=pyfront.PreferenceFeedback):
    """Five steps that change the start in place."""
    opt = method(torch.optim.SGD([start], lr=0.1), preference)
    for _ in range(5):
        losses = [(start - 1).square().sum(), (start + 1).square().sum()]
        values = opt.step(losses).losses.tolist()
    return Solution(method="feedback", preference=preference, train_losses=values), start


def test_a_walk_by_linear_weights_begins_at_the_same_start():
    def begin():
        return torch.nn.Parameter(torch.tensor([0.5]))

    front = pyfront.trace(walk, PREFERENCES, start=begin(), linear=True, progress=False)
    by_weights = functools.partial(walk, method=LinearScalarization)
    plain = pyfront.trace(by_weights, PREFERENCES, start=begin(), progress=False)
    assert [s.method for s in front] == 3 * ["feedback"] + 3 * ["linear"]
    assert front[:3] == pyfront.trace(walk, PREFERENCES, start=begin(), progress=False)
    assert front.losses()[3:].tolist() == plain.losses().tolist()
    with pytest.raises(TypeError, match="method=, which makes the optimizer"):
        pyfront.trace(lambda preference, start: None, PREFERENCES, linear=True)


def test_a_walk_that_fails_is_named_as_linear():
    def train(preference, start, method=None):
        return (walk(preference, start)) if method is None else "nothing"

    start = torch.nn.Parameter(torch.tensor([0.5]))
    with pytest.raises(SweepError, match="expected \\(solution, state\\)") as caught:
        pyfront.trace(train, PREFERENCES, start=start, linear=True, progress=False)
    assert [f.preference for f in caught.value.failures] == [("linear", (0.2, 0.8))]
    assert len(caught.value.front) == 3

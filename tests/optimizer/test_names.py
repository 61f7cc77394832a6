"""Losses and preferences by name: one order, and names wherever a task is spoken of."""

import copy
import io

import pytest
import torch

import pyfront
from pyfront import EPO, FERERO, MGDA, LinearScalarization, SingleLoopMGDA, UncertaintyWeighting

X = torch.linspace(-1, 1, 30).reshape(6, 5)
NAMED = {"segmentation": 0.7, "depth": 0.3}


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def named(model, x=X, order=("segmentation", "depth")):
    return dict(sorted(zip(NAMED, model.losses(x), strict=True), key=lambda kv: order.index(kv[0])))


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("order", [("segmentation", "depth"), ("depth", "segmentation")])
@pytest.mark.parametrize("way", ["losses", "closure", "scalarize", "accumulate"])
def test_named_losses_are_the_losses_in_the_preferences_order(two_heads, order, way):
    other = copy.deepcopy(two_heads)
    opt, by_name = EPO(sgd(two_heads), [0.7, 0.3]), EPO(sgd(other), NAMED)
    for _ in range(3):
        if way == "accumulate":
            opt.accumulate(two_heads.losses(X))
            by_name.accumulate(named(other, order=order))
        report = opt.step(two_heads.losses(X))
        if way == "closure":
            by_name.step(lambda: named(other, order=order))
        elif way == "scalarize":
            by_name.zero_grad()
            by_name.scalarize(named(other, order=order)).backward()
            by_name.step()
        else:
            by_name.step(named(other, order=order))
        assert same(two_heads, other)
    assert by_name.report.tasks == by_name.tasks == ("segmentation", "depth")
    assert torch.equal(report.weights, by_name.report.weights)
    assert report.tasks is None and opt.tasks is None


def test_the_first_step_names_the_tasks_where_the_preference_has_no_names(two_heads):
    opt = MGDA(sgd(two_heads))
    opt.step(named(two_heads, order=("depth", "segmentation")))
    assert opt.tasks == ("depth", "segmentation")
    report = opt.step(named(two_heads))
    assert report.tasks == ("depth", "segmentation")
    assert report.losses[1].item() == pytest.approx(report.metrics()["loss/segmentation"])
    report = opt.step(two_heads.losses(X))  # by position from here on
    assert report.tasks == ("depth", "segmentation")


def test_metrics_have_the_names(two_heads):
    opt = EPO(sgd(two_heads), NAMED)
    opt.step(named(two_heads))
    metrics = opt.metrics()
    assert set(metrics) >= {
        "loss/segmentation", "loss/depth", "weight/segmentation", "weight/depth"
    }  # fmt: skip
    assert opt.report.as_dict()["tasks"] == ("segmentation", "depth")
    assert not any(key.endswith(("/0", "/1")) for key in metrics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("depth"), r"losses: 'depth' is missing, of the tasks 'segmentation', 'd"),
        (lambda d: d.update(normals=d["depth"]), r"losses\['normals'\]: is no task of this opt"),
    ],
)
@pytest.mark.parametrize("way", ["step", "backward", "scalarize", "accumulate"])
def test_missing_and_surplus_names_are_errors(two_heads, change, message, way):
    opt = EPO(sgd(two_heads), NAMED)
    losses = named(two_heads)
    change(losses)
    before = copy.deepcopy(two_heads)
    with pytest.raises(ValueError, match=message):
        getattr(opt, way)(losses)
    assert same(before, two_heads) and opt.report is None and two_heads.trunk.bias.grad is None


@pytest.mark.parametrize("bad", ["", "7", 3])
def test_names_that_are_none_are_refused(two_heads, bad):
    a, b = two_heads.losses(X)
    with pytest.raises((ValueError, TypeError), match="expected a name"):
        MGDA(sgd(two_heads)).step({"segmentation": a, bad: b})
    with pytest.raises((ValueError, TypeError), match="expected a name"):
        EPO(sgd(two_heads), {bad: 0.5, "depth": 0.5})


def test_errors_name_the_task(two_heads):
    opt = EPO(sgd(two_heads), NAMED)
    losses = named(two_heads)
    with pytest.raises(ValueError, match=r"losses\['depth'\] = nan"):
        opt.step({**losses, "depth": losses["depth"] * float("nan")})
    with pytest.raises(ValueError, match=r"losses\['depth'\].*has no graph"):
        opt.step({**losses, "depth": losses["depth"].detach()})
    with pytest.raises(ValueError, match=r"losses\['segmentation'\].*reaches no parameter"):
        opt.step({**losses, "segmentation": torch.ones((), requires_grad=True) * 1})
    with pytest.raises(ValueError, match=r"preference\['depth'\] = 0"):
        opt.step(losses, preference={"segmentation": 1.0, "depth": 0.0})


def test_preferences_by_name(two_heads):
    opt = EPO(sgd(two_heads), NAMED)
    opt.preference = {"depth": 0.6, "segmentation": 0.4}
    assert opt.preference.tolist() == [0.4, 0.6]
    with pytest.raises(ValueError, match="preference: 'depth' is missing"):
        opt.preference = {"segmentation": 0.4}
    with pytest.raises(ValueError, match=r"preference\['depth'\] = 0"):
        opt.preference = {"segmentation": 0.4, "depth": 0.0}
    other = copy.deepcopy(two_heads)
    plain = EPO(sgd(other), [0.4, 0.6])
    expected = plain.backward(other.losses(X), preference=[0.2, 0.8]).weights
    found = opt.backward(named(two_heads), preference={"depth": 0.8, "segmentation": 0.2}).weights
    assert torch.equal(found, expected) and opt.preference.tolist() == [0.4, 0.6]
    with pytest.raises(ValueError, match="it is by name, so losses must be a dict"):
        plain.backward(other.losses(X), preference=NAMED)


@pytest.mark.parametrize("products", ["double_backward", "forward", "difference"])
def test_products_call_a_closure_of_named_losses_again(two_heads, products):
    other = copy.deepcopy(two_heads)
    opt = SingleLoopMGDA(sgd(two_heads), products=products)
    by_name = SingleLoopMGDA(sgd(other), products=products)
    first = True
    for _ in range(3):
        opt.step(lambda: two_heads.losses(X))
        order = ("segmentation", "depth") if first else ("depth", "segmentation")
        by_name.step(lambda order=order: named(other, order=order))
        first = False
    assert same(two_heads, other)


def test_the_second_batch_goes_by_name(two_heads):
    other = copy.deepcopy(two_heads)
    opt, by_name = SingleLoopMGDA(sgd(two_heads)), SingleLoopMGDA(sgd(other))
    opt.step(two_heads.losses(X), second=two_heads.losses(X + 1))
    by_name.step(named(other), second=named(other, X + 1, order=("depth", "segmentation")))
    assert same(two_heads, other)


@pytest.mark.parametrize(
    "make",
    [
        lambda base: EPO(base, NAMED),
        lambda base: LinearScalarization(base, NAMED),
        lambda base: FERERO(base, NAMED),
        lambda base: pyfront.PreferenceFeedback(base, NAMED),
        lambda base: pyfront.SmoothTchebycheff(base, NAMED),
        lambda base: UncertaintyWeighting(base, 2),
    ],
)
def test_names_travel_with_checkpoints_and_copies(two_heads, make):
    opt = make(sgd(two_heads))
    opt.step(named(two_heads))
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    fresh = make(sgd(two_heads))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.tasks == copy.deepcopy(opt).tasks == ("segmentation", "depth")


def test_a_checkpoint_of_other_tasks_is_refused(two_heads):
    saved = EPO(sgd(two_heads), {"a": 0.7, "b": 0.3}).state_dict()
    with pytest.raises(ValueError, match=r"its tasks are \['a', 'b'\], expected \['segm"):
        EPO(sgd(two_heads), NAMED).load_state_dict(saved)
    unnamed = EPO(sgd(two_heads), [0.7, 0.3]).state_dict()
    opt = EPO(sgd(two_heads), NAMED)
    opt.load_state_dict(unnamed)
    assert opt.tasks == ("segmentation", "depth")


# ----------------------------------------------------------------------------------- a single task


@pytest.mark.parametrize(
    "make",
    [lambda base: EPO(base, [1.0]), lambda base: LinearScalarization(base, {"only": 1.0})],
)
def test_an_optimizer_of_one_task_takes_a_scalar(two_heads, make):
    other = copy.deepcopy(two_heads)
    opt, bare = make(sgd(two_heads)), make(sgd(other))
    opt.step(two_heads.losses(X)[:1])
    bare.step(other.losses(X)[0])
    opt.step(two_heads.losses(X)[:1])
    bare.step(lambda: other.losses(X)[0])
    opt.step(two_heads.losses(X)[:1])
    bare.zero_grad()
    bare.scalarize(other.losses(X)[0]).backward()
    bare.step()
    assert same(two_heads, other)


def test_a_sum_for_several_tasks_is_explained(two_heads):
    for opt, count in ((EPO(sgd(two_heads), NAMED), "2"), (MGDA(sgd(two_heads)), "an unknown")):
        with pytest.raises(ValueError, match=f"got one scalar for {count}.*before they are summed"):
            opt.step(sum(two_heads.losses(X)))

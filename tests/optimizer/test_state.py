"""What is kept between steps, and what must not be: roles, micro-batches, weights, checkpoints."""

import copy
import inspect

import pytest
import torch

import pyfront
from pyfront import EPO, MGDA, LinearScalarization, ParetoMTL, preferences
from pyfront.functional import combine

X = torch.linspace(-1, 1, 30).reshape(6, 5)


def pair(a=1.0, b=2.0):
    return torch.nn.Parameter(torch.tensor([a, b]))


def squares(x):
    return [x[0] ** 2, x[1] ** 2]


def test_step_takes_no_scaler_and_no_option_without_losses():
    x = pair()
    opt = EPO(torch.optim.SGD([x], lr=0.1), [0.5, 0.5])
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(TypeError, match="scaler"):
        opt.step(squares(x), scaler=scaler)
    with pytest.raises(ValueError, match="preference: without losses"):
        opt.step(None, preference=[0.5, 0.5])
    assert x.tolist() == [1.0, 2.0]


def test_a_parameter_that_is_frozen_later_stays_where_it_is():
    x, y = pair(), pair()
    opt = MGDA(torch.optim.SGD([x, y], lr=0.1))
    opt.step([(x**2).sum() + y.sum(), (y**2).sum() + x.sum()])
    y.requires_grad_(False)
    before = y.detach().clone()
    opt.step([(x**2).sum(), x.sum()])
    assert torch.equal(y, before) and y.grad is None


def test_a_new_wrapper_of_the_same_base_starts_afresh():
    x = pair()
    base = torch.optim.SGD([x], lr=1e-3)
    EPO(base, [0.7, 0.3], weight_smoothing=0.5).step(squares(x))
    opt = MGDA(base, every=10)
    assert opt.preference is None
    opt.step([*squares(x), x.sum() ** 2])
    vectors = preferences.circle(3)
    first = ParetoMTL(base, vectors, 0, warmup_steps=1)
    first.step(squares(x))
    assert first.phase == "descent" and ParetoMTL(base, vectors, 2).phase == "feasibility"


def test_a_checkpoint_of_another_method_is_refused():
    x = pair()
    saved = EPO(torch.optim.SGD([x], lr=0.1), [0.7, 0.3]).state_dict()
    opt = MGDA(torch.optim.SGD([x], lr=0.2))
    with pytest.raises(ValueError, match="saved by EPO, not by MGDA"):
        opt.load_state_dict(saved)
    assert opt.param_groups[0]["lr"] == 0.2


def test_a_snapshot_does_not_change_with_the_optimizer():
    x = pair()
    opt = MGDA(torch.optim.SGD([x], lr=0.1), weight_smoothing=0.5)
    report = opt.step(squares(x))
    snapshot = copy.deepcopy(opt.state_dict())
    held = opt.state_dict()
    report.weights.mul_(100)
    opt.step(squares(x))
    assert held["param_groups"][0]["pyfront"] == snapshot["param_groups"][0]["pyfront"]
    assert opt.report.weights.sum().item() == pytest.approx(1.0)
    r = EPO(torch.optim.SGD([x], lr=0.1), [0.7, 0.3])
    with pytest.raises(TypeError, match=r"assign opt.preference = \[\.\.\.\]"):
        r.preference[0] = -1.0
    assert r.preference.tolist() == [0.7, 0.3]


def test_distributed_checkpoint_on_disk_keeps_the_method_state(tmp_path, two_heads):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    if "no_dist" not in inspect.signature(dcp.save).parameters:
        pytest.skip(f"torch {torch.__version__} saves in running processes alone")

    def optimizer(model):
        return MGDA(torch.optim.AdamW(model.parameters(), lr=0.01), weight_smoothing=0.7, every=2)

    opt = optimizer(two_heads)
    opt.step(two_heads.losses(X))
    model_state, opt_state = get_state_dict(two_heads, opt)
    dcp.save({"model": model_state, "opt": opt_state}, checkpoint_id=tmp_path, no_dist=True)
    model = copy.deepcopy(two_heads)
    fresh = optimizer(model)
    model_state, opt_state = get_state_dict(model, fresh)
    state = {"model": model_state, "opt": opt_state}
    dcp.load(state, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(model, fresh, model_state_dict=state["model"], optim_state_dict=state["opt"])
    assert fresh.memory == opt.memory and len(fresh.memory["weights"]) == 2
    opt.step(two_heads.losses(X))
    fresh.step(model.losses(X))
    for p, q in zip(two_heads.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)


# ------------------------------------------------------------------------------------ micro-batches


def test_collected_gradients_are_neither_lost_nor_left_over():
    x = pair()
    opt = MGDA(torch.optim.SGD([x], lr=0.1))
    opt.accumulate(squares(x))
    with pytest.raises(ValueError, match="accumulate"):
        opt.step()
    opt.zero_grad()
    assert opt.backward(squares(x)).losses.tolist() == [1.0, 4.0]


def test_the_domain_is_that_of_the_whole_batch():
    x = pair()
    opt = EPO(torch.optim.SGD([x], lr=0.1), [0.5, 0.5], offset=[0.9, 0.9])
    opt.accumulate([loss / 2 for loss in squares(x)])
    report = opt.backward([loss / 2 for loss in squares(x)])
    assert report.losses.tolist() == [1.0, 4.0] and report.status == "ok"


def test_micro_batches_of_different_scale_are_refused():
    x = pair()
    opt = MGDA(torch.optim.SGD([x], lr=0.1))
    opt.accumulate(squares(x))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with pytest.raises(ValueError, match="scaled by 1024 here and by 1 in"):
        opt.backward(squares(x), scaler=scaler)


# ---------------------------------------------------------------------------- weights that are kept


def test_every_decides_anew_for_a_new_preference_or_number_of_tasks():
    x = pair()
    opt = LinearScalarization(torch.optim.SGD([x], lr=1e-3), [1.0, 1.0], every=10)
    opt.step(squares(x))
    assert opt.step(squares(x), preference=[2.0, 3.0]).weights.tolist() == [2.0, 3.0]
    opt.preference = [5.0, 7.0]
    assert opt.step(squares(x)).weights.tolist() == [5.0, 7.0]
    mgda = MGDA(torch.optim.SGD([x], lr=1e-3), every=10)
    mgda.step(squares(x))
    assert mgda.step([*squares(x), x.sum() ** 2]).weights.numel() == 3


def test_weights_are_applied_in_full_precision_to_half_precision_losses():
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    opt = LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.7, 1e-9])
    opt.backward([x[0].half() * 1, x[1].half() * 1])
    assert x.grad[0].item() == pytest.approx(0.7, rel=1e-3)
    opt = LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.7, 0.3])
    opt.backward([x[0].bfloat16(), x[1] * 1])
    assert x.grad[0].item() == pytest.approx(0.7, rel=4e-3)


# ------------------------------------------------------------------------------- what is not finite


@pytest.mark.parametrize("options", [{}, {"gramian_over": "shared"}])
def test_an_infinite_gradient_of_a_head_is_found_whatever_the_gramian_is_over(two_heads, options):
    opt = MGDA(torch.optim.SGD(two_heads.parameters(), lr=0.1), **options)
    two_heads.heads[1].weight.register_hook(lambda g: g * float("inf"))
    with pytest.raises(ValueError, match=r"losses\[1\] = .*gradient is not finite"):
        opt.step(two_heads.losses(X))
    assert all(p.grad is None for p in two_heads.parameters())


def test_an_infinite_fixed_loss_or_gradient_is_named_or_skips_the_step():
    x = pair()
    opt = MGDA(torch.optim.SGD([x], lr=0.1), weight_smoothing=0.5)
    with pytest.raises(ValueError, match="fixed: its gradient is not finite"):
        opt.step(squares(x), fixed=(x - x.detach()).abs().sqrt().sum())
    with pytest.raises(ValueError, match=r"fixed\[0\] = inf"):
        opt.step(squares(x), fixed=x.sum() * float("inf"))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    report = opt.backward(squares(x), fixed=x.sum() * float("inf"), scaler=scaler)
    assert report.status == "nonfinite" and "weights" not in opt.memory


def test_mgda_refuses_to_divide_by_a_negative_loss_and_survives_a_tiny_one():
    x = pair()
    opt = MGDA(torch.optim.SGD([x], lr=0.1), normalization="loss")
    with pytest.raises(ValueError, match=r"losses\[0\] = -4.*normalization"):
        opt.step([x[0] ** 2 - 5, x[1] ** 2])
    tiny = torch.nn.Parameter(torch.tensor([1e-85, 1.0], dtype=torch.float64))
    report = MGDA(torch.optim.SGD([tiny], lr=0.1), normalization="loss").step(squares(tiny))
    assert report.weights.isfinite().all()


# -------------------------------------------------------------------------------------------- roles


def test_roles_belong_to_parameters_and_not_to_places():
    a, b, h = (torch.nn.Parameter(torch.tensor([v])) for v in (1.0, 2.0, 3.0))
    b.requires_grad_(False)
    opt = MGDA(torch.optim.SGD([a, b, h], lr=0.0), gramian_over="shared")
    opt.step([(a**2).sum(), (a * h).sum()])
    h.requires_grad_(False)
    b.requires_grad_(True)
    report = opt.step([(a**2 + b).sum(), (a * 2 + b).sum()])
    assert report.gramian.tolist() == [[5.0, 5.0], [5.0, 5.0]]


def test_frozen_models_and_losses_that_reach_nothing_are_named():
    x, y = pair(), pair()
    opt = LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.5, 0.5])
    with pytest.raises(ValueError, match=r"losses\[1\]: the graph reaches no parameter"):
        opt.step([x.sum(), y.sum()])
    x.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of this optimizer requires a gradient"):
        opt.step([y.sum(), y.sum()])


def test_a_number_is_no_preference_and_empty_blocks_are_harmless():
    with pytest.raises(ValueError, match="preference"):
        EPO(torch.optim.SGD([pair()], lr=0.1), 0.5)
    assert combine(torch.zeros(65537, 0), [0.0] * 65537).tolist() == []


def test_constraints_that_cancel_end_the_feasibility_phase():
    x = torch.nn.Parameter(torch.tensor(2.0))
    opt = ParetoMTL(torch.optim.SGD([x], lr=0.1), [[1.0, 0.0], [0.0, 1.0]], 0)
    report = opt.step([x**2, x**2 + 1])
    assert report.status == "stationary" and opt.phase == "descent" and opt.feasible is False


# --------------------------------------------------------------------------------- all or nothing


def adaptive(base):
    return EPO(base, [0.5, 0.5], epsilon="adaptive")


def in_phases(base):
    return ParetoMTL(base, preferences.circle(3), 0, warmup_steps=5, weight_smoothing=0.5)


@pytest.mark.parametrize("make", [adaptive, in_phases])
def test_a_call_that_fails_after_the_decision_leaves_the_state(make, monkeypatch):
    x = pair(1.0, 1.0)
    opt = make(torch.optim.SGD([x], lr=0.1))
    opt.step(squares(x))
    before, gradient = copy.deepcopy(opt.memory), x.grad.clone()

    def fails(*arguments):
        raise MemoryError("no room for the direction")

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr("pyfront.optimizer.direction.direction_buffers", fails)
        opt.backward(squares(x))
    assert opt.memory == before and torch.equal(x.grad, gradient)
    opt.backward(squares(x))
    assert opt.memory != before


def test_a_direction_that_overflows_under_a_scaler_leaves_the_state():
    x = torch.nn.Parameter(torch.ones(2))
    opt = adaptive(torch.optim.SGD([x], lr=0.1))
    opt.scale = "sum"
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    before = copy.deepcopy(opt.memory)
    report = opt.backward([3 * x[0], 2.9 * x[0] + 0.1 * x[1]], scaler=scaler)
    assert report.status == "nonfinite" and opt.memory == before


def test_a_constructor_that_raises_leaves_the_state_of_another_method_alone():
    base = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    good = pyfront.EPO(base, [0.3, 0.7])
    for bad in (
        lambda: pyfront.MGDA(base, every=0),
        lambda: pyfront.EPO(base, [0.3, -0.7]),
        lambda: pyfront.MGDA(base, gramian_over="heads"),
        lambda: pyfront.UncertaintyWeighting(base, 2, lr=-1.0),
        lambda: pyfront.GradNorm(base, lr=-1.0),
    ):
        with pytest.raises(ValueError):
            bad()
        assert good.preference.tolist() == [0.3, 0.7]


@pytest.mark.parametrize(
    "make",
    [
        lambda base, m: pyfront.EPO(base, [1.0 / m] * m),
        lambda base, m: pyfront.UncertaintyWeighting(base, m),
        lambda base, m: pyfront.ParetoMTL(base, pyfront.preferences.das_dennis(m, 2), 0),
    ],
)
def test_a_checkpoint_of_another_number_of_tasks_is_refused(make):
    def trained(m):
        x = torch.nn.Parameter(torch.ones(m))
        opt = make(torch.optim.SGD([x], lr=0.01), m)
        opt.step([(k + 1.0) * (x[k] - 0.5 * k) ** 2 + 0.1 for k in range(m)])
        return opt

    saved, opt = trained(2).state_dict(), trained(3)
    before = opt.state_dict()
    with pytest.raises(ValueError, match=r"state_dict: it.* 2 .*expected 3"):
        opt.load_state_dict(saved)
    assert opt.state_dict() == before


def test_a_method_that_takes_no_preference_refuses_that_of_a_call():
    x = pair()
    opt = pyfront.SingleLoopMGDA(torch.optim.SGD([x], lr=0.1))
    with pytest.raises(TypeError, match="preference: SingleLoopMGDA takes none"):
        opt.step(squares(x), preference=[0.5, 0.5])

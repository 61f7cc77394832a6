"""Training loops that do something else than they mean to are told so."""

import copy
import pickle
import warnings

import pytest
import torch
from loop_cases import X, setting

import pyfront


def losses(model):
    return [((model(X)[:, j] - j) ** 2).mean() for j in range(2)]


def told(call):
    """Return the messages of the warnings that a call gives, and the files they point at."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    assert {warning.filename for warning in seen} <= {__file__}
    return [str(warning.message) for warning in seen]


# ------------------------------------------------------------------------ steps without a decision


def summed(model, opt, steps=1):
    for _ in range(steps):
        opt.zero_grad()
        sum(losses(model)).backward()
        opt.step()


def test_a_loop_that_sums_the_losses_itself_is_told_once_and_is_that_of_the_base():
    model, opt = setting()
    messages = told(lambda: summed(model, opt, 3))
    assert len(messages) == 1 and "that of SGD alone" in messages[0]
    assert "opt.scalarize(losses)" in messages[0]
    plain, bare = setting()
    summed(plain, bare.base, 3)
    assert torch.equal(model.weight, plain.weight)


def test_a_loop_that_calls_backward_on_the_scalar_is_silent():
    model, opt = setting()

    def loop():
        for _ in range(2):
            opt.zero_grad()
            opt.scalarize(losses(model)).backward()
            opt.step()

    assert told(loop) == []


def test_a_decision_serves_one_step():
    model, opt = setting()
    opt.step(losses(model))
    sum(losses(model)).backward()  # added to the .grad of the step before
    assert len(told(opt.step)) == 1


@pytest.mark.parametrize("wrap", [lambda opt: opt, copy.copy])
def test_steps_that_a_decision_made_are_silent(wrap):
    model, opt = setting()
    stepping = wrap(opt)

    def loop():
        stepping.step()  # no .grad yet
        for _ in range(2):
            opt.step(losses(model))
            opt.backward(losses(model))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            stepping.step()
            opt.accumulate([loss / 2 for loss in losses(model)])
            opt.step(lambda: [loss / 2 for loss in losses(model)])
            opt.step(lambda: opt.backward(losses(model)) and None)
            opt.zero_grad()
            opt.step()

    assert told(loop) == []


def test_zero_gradients_with_which_a_checkpoint_creates_state_are_silent():
    model, opt = setting(base=torch.optim.Adam)

    def zeros():
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        opt.step(closure=None)

    assert told(zeros) == [] and len(opt.state) == 2


def test_a_sparse_gradient_counts():
    table = torch.nn.Embedding(3, 2, sparse=True)
    opt = pyfront.LinearScalarization(torch.optim.SparseAdam(table.parameters()), [0.5, 0.5])
    table(torch.tensor([1])).sum().backward()
    assert len(told(opt.step)) == 1


def test_a_copy_between_backward_and_step_keeps_the_decision():
    model, opt = setting()
    opt.backward(losses(model))
    _, twin = copy.deepcopy((model, opt))
    thawed = pickle.loads(pickle.dumps(opt))
    assert told(twin.step) == [] and told(opt.step) == []
    assert thawed.preference.tolist() == [0.9, 0.1]


def test_a_closure_that_sums_is_told_what_to_return():
    model, opt = setting()

    def closure():
        opt.zero_grad()
        loss = sum(losses(model))
        loss.backward()
        return loss

    with pytest.raises(TypeError, match=r"closure: it returned one number.*automatic_optim"):
        opt.step(closure)


# -------------------------------------------------------------------------------- gradient scalers


@pytest.mark.parametrize("base", ["plain", "fused"])
@pytest.mark.parametrize("unscale", [False, True])
def test_scaled_training_is_that_without_a_scaler(base, unscale):
    """A fused Adam unscales inside its step, which is none of the wrapper's business."""
    options = {"base": torch.optim.Adam, "fused": base == "fused"}
    model, opt = setting(**options)
    plain, other = setting(**options)
    scaler = torch.amp.GradScaler("cpu")

    def loop():
        for _ in range(3):
            opt.backward(losses(model), scaler=scaler)
            if unscale:
                scaler.unscale_(opt)
            scaler.step(opt)
            scaler.update()
            other.step(losses(plain))

    assert told(loop) == []
    torch.testing.assert_close(model.weight, plain.weight)


def test_a_step_on_gradients_that_are_still_scaled_is_refused():
    model, opt = setting()
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    before = model.weight.detach().clone()
    opt.backward(losses(model), scaler=scaler)
    with pytest.raises(RuntimeError, match=r"still scaled by 512.*scaler.step\(opt\)"):
        opt.step()
    assert torch.equal(model.weight, before)
    scaler.step(opt)  # what the message says
    assert not torch.equal(model.weight, before)
    scaler.update()
    opt.backward(losses(model), scaler=scaler)
    opt.zero_grad()
    opt.step(losses(model))  # a new decision needs no scaler


def test_a_scaler_that_is_off_asks_for_nothing():
    model, opt = setting()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    opt.backward(losses(model), scaler=scaler)
    assert told(opt.step) == []


@pytest.mark.parametrize("together", [False, True])
def test_losses_scaled_by_hand_are_noticed_at_the_first_step(together):
    model, opt = setting()
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def scaled():
        found = losses(model)
        return scaler.scale(torch.stack(found)) if together else scaler.scale(found)

    messages = told(lambda: opt.backward(scaled()))
    assert len(messages) == 1 and "multiplied by 256" in messages[0]
    assert "backward(losses, scaler=scaler)" in messages[0]
    assert told(lambda: opt.backward(scaled())) == []


def test_other_factors_are_the_users_own():
    for factor in (256.0, torch.tensor(3.0), torch.tensor(256.0).double(), torch.tensor(0.5)):
        model, opt = setting()
        assert told(lambda f=factor, m=model, o=opt: o.step([x * f for x in losses(m)])) == []
    model, opt = setting()
    first, second = losses(model)
    assert told(lambda: opt.step([first * torch.tensor(4.0), second])) == []


# ------------------------------------------------------------------------------------- preferences


def test_weights_far_from_a_mean_and_a_sum_are_told_how_to_be_written():
    def make(base):
        return pyfront.LinearScalarization(base, [70, 30])

    model, opt = None, None

    def build():
        nonlocal model, opt
        model, opt = setting(make)

    (message,) = told(build)
    assert "sum to 100" in message and "[0.7, 0.3]" in message
    opt.preference = [0.7, 0.3]

    def assign():
        opt.preference = [7e-3, 3e-3]

    (message,) = told(assign)
    assert "sum to 0.01" in message and "[0.7, 0.3]" in message


@pytest.mark.parametrize(
    "r", [[0.5, 0.5], [1.0, 1.0], [1.0, 0.5], [1 / 3, 0.66], [0, 1], [1.2, 0.8]]
)
def test_weights_between_a_mean_and_a_sum_are_silent(r):
    assert told(lambda: setting(lambda base: pyfront.LinearScalarization(base, r))) == []


def test_a_percentage_is_a_direction_for_other_methods():
    assert told(lambda: setting(lambda base: pyfront.EPO(base, [70, 30]))) == []

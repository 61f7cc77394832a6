"""One optimizer in two threads: a clear error in one, a right step in the other."""

import threading

import pytest
import torch

import pyfront


def setting(make=pyfront.MGDA):
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    return x, make(torch.optim.SGD([x], lr=0.1))


def losses(x):
    return [x[0] ** 2, (x[1] - 1) ** 2]


def elsewhere(call):
    """Return the error of a call in another thread, or None."""
    errors = []

    def run():
        try:
            call()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors[0] if errors else None


CALLS = {
    "backward": lambda opt, x: opt.backward(losses(x)),
    "step": lambda opt, x: opt.step(losses(x)),
    "accumulate": lambda opt, x: opt.accumulate(losses(x)),
    "scalarize": lambda opt, x: opt.scalarize(losses(x)),
    "zero_grad": lambda opt, x: opt.zero_grad(),
}
METHODS = {
    "MGDA": pyfront.MGDA,
    "linear": lambda base: pyfront.LinearScalarization(base, [0.5, 0.5]),
    "products": pyfront.SingleLoopMGDA,
    "forward": lambda base: pyfront.SingleLoopMGDA(base, products="forward"),
    "difference": lambda base: pyfront.SingleLoopMGDA(base, products="difference"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("method", METHODS)
def test_a_call_during_a_backward_pass_of_another_thread(method, name):
    x, opt = setting(METHODS[method])
    y, twin = setting(METHODS[method])
    errors = []

    def interrupt(gradient):
        errors.append(elsewhere(lambda: CALLS[name](opt, x)))

    def interrupted():
        found = losses(x)
        if not errors:  # once; a replay computes the losses again
            found[0].register_hook(interrupt)
        return found

    opt.step(interrupted)
    twin.step(lambda: losses(y))
    assert errors and all(isinstance(error, RuntimeError) for error in errors)
    assert all(str(error).startswith(f"{name}: another thread") for error in errors)
    assert torch.equal(x, y)
    opt.zero_grad()
    opt.step(lambda: losses(x))  # and the way is free again


@pytest.mark.parametrize("name", CALLS)
def test_a_call_during_the_bases_step_of_another_thread(name):
    x, opt = setting()
    errors = []
    opt.register_step_pre_hook(lambda *_: errors.append(elsewhere(lambda: CALLS[name](opt, x))))
    opt.step(losses(x))
    assert isinstance(errors[0], RuntimeError) and "one thread at a time" in str(errors[0])
    opt.backward(losses(x))
    assert elsewhere(lambda: CALLS["zero_grad"](opt, x)) is None


def test_many_threads_at_once_make_whole_steps_or_clear_errors():
    """Each step that is made lowers a loss of 1 by the same factor: none is made by halves."""
    x = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.25), [1.0])
    made, errors = [], []
    start = threading.Barrier(4)

    def run():
        start.wait()
        for _ in range(30):
            try:
                opt.step(lambda: [(x**2).sum()])
                made.append(1)
            except RuntimeError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) + len(errors) == 120 and made
    assert all("another thread is in a call" in error for error in errors)
    assert x.item() == 0.5 ** len(made)


def test_hooks_of_the_same_thread_may_clear_and_may_not_decide():
    x, opt = setting()
    opt.register_step_post_hook(lambda *_: opt.zero_grad())
    opt.step(losses(x))
    assert x.grad is None
    found = losses(x)
    found[0].register_hook(lambda gradient: opt.backward(losses(x)))
    with pytest.raises(RuntimeError, match="a decision of this optimizer is under way"):
        opt.step(found)
    opt.step(losses(x))


def test_two_forward_products_at_once_say_that_they_must_take_turns():
    x, opt = setting(METHODS["forward"])
    y, other = setting(METHODS["forward"])
    errors = []

    def closure():
        if not torch.is_grad_enabled():  # the replay, under a dual number
            errors.append(elsewhere(lambda: other.step(lambda: losses(y))))
        return losses(x)

    opt.step(closure)
    assert "one at a time in a process" in str(errors[0]) and x.isfinite().all()

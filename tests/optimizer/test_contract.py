"""What a method promises and what its options allow is checked, on a live optimizer too."""

import copy
import threading

import numpy as np
import pytest
import torch

import pyfront
from pyfront import EPO, MGDA, LinearScalarization, MultiTaskOptimizer, ParetoMTL, Report


def pair():
    return torch.nn.Parameter(torch.tensor([1.0, 2.0]))


def squares(x):
    return [x[0] ** 2, x[1] ** 2]


def deciding(answer, **attributes):
    return type(
        "Mine", (MultiTaskOptimizer,), {"needs": "losses", "decide": lambda *_: answer} | attributes
    )


def weights(*values, dtype=torch.float64):
    return Report(weights=torch.tensor(values, dtype=dtype))


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (weights(0.5), ValueError, r"Mine.decide: expected 2 weights, got shape \[1\]"),
        (weights(0.5, np.nan), ValueError, "Mine.decide: the weights are not finite"),
        (weights(0.5, np.inf), ValueError, "Mine.decide: the weights are not finite"),
        (weights(1, 0, dtype=torch.float32), TypeError, "Mine.decide: expected float64 weights"),
        (torch.ones(2), TypeError, "Mine.decide: expected a Report with weights, got Tensor"),
        (None, TypeError, "Mine.decide: expected a Report with weights, got NoneType"),
    ],
)
@pytest.mark.parametrize("needs", ["losses", "gramian"])
def test_what_decide_returns_is_checked(needs, answer, error, match):
    x = pair()
    opt = deciding(answer, needs=needs)(torch.optim.SGD([x], lr=0.1))
    with pytest.raises(error, match=match):
        opt.step(squares(x))
    assert x.tolist() == [1.0, 2.0] and x.grad is None and opt.report is None


def test_a_class_that_promises_nonsense_is_refused():
    with pytest.raises(TypeError, match=r"Mine.needs = 'hessian': must be one of 'losses'"):
        deciding(None, needs="hessian")
    with pytest.raises(TypeError, match="a method that needs products has to observe"):
        deciding(None, needs="products")
    with pytest.raises(TypeError, match="abstract"):
        MultiTaskOptimizer(torch.optim.SGD([pair()], lr=0.1))


WRONG = [
    (MGDA, "every", 0, ValueError),
    (MGDA, "every", 1.5, TypeError),
    (MGDA, "scale", "summ", ValueError),
    (MGDA, "engine", "stael", ValueError),
    (MGDA, "weight_smoothing", 1.0, ValueError),
    (MGDA, "task_gradients", "mine", ValueError),
    (MGDA, "gramian_over", "some", ValueError),
    (MGDA, "normalization", "l1", ValueError),
    (MGDA, "upper_bound", 1, TypeError),
    (lambda base: EPO(base, [0.5, 0.5]), "epsilon", -1.0, ValueError),
    (lambda base: EPO(base, [0.5, 0.5]), "descent", "none", ValueError),
    (lambda base: EPO(base, [0.5, 0.5]), "preference", [0.5, 0.0], ValueError),
    (lambda base: ParetoMTL(base, [[0, 1], [1, 0]], 0), "warmup_steps", -1, ValueError),
    (pyfront.GradNorm, "alpha", -1.0, ValueError),
    (pyfront.SingleLoopMGDA, "products", "exact", ValueError),
    (pyfront.SingleLoopMGDA, "rate", 2.0, ValueError),
    (pyfront.DynamicWeightAverage, "temperature", 0.0, ValueError),
]


@pytest.mark.parametrize(("make", "name", "value", "error"), WRONG)
def test_options_are_checked_at_every_assignment(make, name, value, error):
    opt = make(torch.optim.SGD([pair()], lr=0.1))
    before = getattr(opt, name)
    with pytest.raises(error, match=name):
        setattr(opt, name, value)
    after = getattr(opt, name)
    assert torch.equal(after, before) if isinstance(after, torch.Tensor) else after == before


def test_a_misspelt_keyword_names_those_that_exist():
    with pytest.raises(TypeError, match="MGDA: unexpected keyword 'evry'; .* every"):
        MGDA(torch.optim.SGD([pair()], lr=0.1), evry=2)


# ------------------------------------------------------------- groups that change, wrappers, copies


def test_groups_may_be_reversed_rebuilt_and_repeated():
    x, y = pair(), pair()
    base = torch.optim.SGD([{"params": [x]}, {"params": [y]}], lr=0.1)
    opt = EPO(base, [0.7, 0.3], weight_smoothing=0.5)
    opt.step([*squares(x)[:1], *squares(y)[:1]])
    kept = dict(opt.memory)
    opt.param_groups.reverse()
    opt.param_groups.extend(copy.deepcopy(opt.param_groups))
    del opt.param_groups[2:]
    opt.param_groups = [dict(group) for group in opt.param_groups]
    assert opt.memory == kept and opt.preference.tolist() == [0.7, 0.3]
    opt.step([x[0] ** 2, y[0] ** 2])
    opt.load_state_dict(opt.state_dict())
    assert base.param_groups[0]["pyfront"] == "" and opt.memory["age"] == 2


def test_two_optimizers_on_one_base_do_not_share_their_state():
    base = torch.optim.SGD([pair()], lr=0.1)
    first, second = EPO(base, [0.7, 0.3]), EPO(base, [0.2, 0.8])
    assert first.preference.tolist() == [0.7, 0.3] and second.preference.tolist() == [0.2, 0.8]


def test_roles_follow_the_parameters_and_not_their_places():
    shared, head = pair(), pair()
    base = torch.optim.SGD([{"params": [shared]}, {"params": [head]}], lr=0.1)
    opt = MGDA(base, gramian_over=[shared], task_gradients="own")
    losses = lambda: [shared.sum() ** 2 + head.sum() ** 2, shared.sum() ** 2]  # noqa: E731
    before = opt.backward(losses()).gramian
    opt.param_groups.reverse()
    after = opt.backward(losses()).gramian
    assert torch.equal(before, after) and torch.equal(head.grad, torch.tensor([6.0, 6.0]))


class Wrapper:
    """Copies the attributes of an optimizer into its own ``__dict__``, as frameworks do."""

    def __new__(cls, opt):
        wrapper = object.__new__(type("Wrapped" + type(opt).__name__, (type(opt),), {}))
        wrapper.__dict__ = dict(opt.__dict__)
        return wrapper


def test_a_wrapper_that_copies_attributes_shares_everything():
    x = pair()
    opt = MGDA(torch.optim.SGD([x], lr=0.1))
    wrapped = Wrapper(opt)
    wrapped.accumulate([loss / 2 for loss in squares(x)])
    report = opt.backward([loss / 2 for loss in squares(x)])
    assert report.losses.tolist() == [1.0, 4.0]  # no micro-batch is lost
    assert wrapped.report is report
    wrapped.every = 3
    assert opt.every == 3
    opt.weight_smoothing = 0.5
    opt.step(squares(x))
    assert wrapped.memory == opt.memory and len(wrapped.memory["weights"]) == 2
    twin = MGDA(torch.optim.SGD([x], lr=0.1), every=3, weight_smoothing=0.5)
    wrapped.load_state_dict(opt.state_dict())
    twin.load_state_dict(wrapped.state_dict())
    assert twin.memory == opt.memory


def test_step_hooks_are_given_the_pyfront_optimizer():
    x, seen = pair(), []
    opt = LinearScalarization(torch.optim.SGD([x], lr=0.1), [1.0, 1.0])
    opt.register_step_pre_hook(lambda o, args, kwargs: seen.append(o))
    handle = opt.register_step_post_hook(lambda o, args, kwargs: seen.append(o.report.status))
    opt.step(squares(x))
    handle.remove()
    opt.step(squares(x))
    assert seen == [opt, "ok", opt]


def test_methods_of_the_base_can_be_called():
    class Switching(torch.optim.SGD):
        mode = "train"

        def eval(self):
            self.mode = "eval"

    opt = MGDA(Switching([pair()], lr=0.1))
    opt.eval()
    assert opt.mode == "eval"
    with pytest.raises(AttributeError, match="neither MGDA nor its base Switching has .* 'evall'"):
        opt.evall()


def test_a_second_thread_is_refused_while_a_call_is_under_way():
    x, errors = pair(), []
    opt = MGDA(torch.optim.SGD([x], lr=0.1))

    def other(gradient):
        def call():
            try:
                opt.backward(squares(pair()))
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    losses = squares(x)
    losses[0].register_hook(other)
    opt.step(losses)
    assert len(errors) == 1 and "one optimizer serves one thread at a time" in errors[0]
    opt.step(squares(x))  # and the lock is free again


def test_a_closure_that_returns_none_steps_on_the_gradient_that_is_there():
    x = pair()
    opt = MGDA(torch.optim.SGD([x], lr=0.1))
    opt.backward(squares(x))
    assert opt.step(lambda: None) is None
    assert x.tolist() != [1.0, 2.0]

"""What goes wrong on one rank, and what every rank then says."""

import os
import time

import torch
import torch.distributed as dist
from distributed_cases import (
    METHODS,
    TARGETS,
    R,
    ThreeHeads,
    batches,
    losses_of,
    part,
    sgd,
    small_buckets,
)
from torch.nn.parallel import DistributedDataParallel

import pyfront


def setup(method="EPO", **options):
    model = DistributedDataParallel(ThreeHeads())
    opt = METHODS[method](sgd(model.parameters()), process_group=dist.group.WORLD, **options)
    return model, opt


def losses(model, rank, world=2):
    return losses_of(model(part(batches()[0], rank, world))[1:], TARGETS)


def nan_loss(rank, bad):
    model, opt = setup()
    found = losses(model, rank)
    if rank == bad:
        found[1] = found[1] * float("nan")
    return opt, lambda: opt.step(found)


def detached(rank, bad):
    model, opt = setup()
    found = losses(model, rank)
    if rank == bad:
        found[2] = found[2].detach()
    return opt, lambda: opt.step(found)


def fewer(rank, bad):
    model, opt = setup("MGDA")
    return opt, lambda: opt.step(losses(model, rank)[: 2 if rank == bad else 3])


def other_preference(rank, bad):
    model, opt = setup()
    if rank == bad:
        opt.preference = [0.2, 0.2, 0.6]
    return opt, lambda: opt.step(losses(model, rank))


def other_option(rank, bad):
    model, opt = setup(every=2 if rank == bad else 1)
    return opt, lambda: opt.step(losses(model, rank))


def other_method(rank, bad):
    model, opt = setup("MGDA" if rank == bad else "UPGrad")
    return opt, lambda: opt.step(losses(model, rank))


def other_step(rank, bad):
    model, opt = setup("PreferenceFeedback")
    if rank == bad:
        opt.memory["count"] = 3
    return opt, lambda: opt.step(losses(model, rank))


def accumulates(rank, bad):
    model, opt = setup()
    call = opt.accumulate if rank == bad else opt.backward
    return opt, lambda: call(losses(model, rank))


def infinite_gradient(rank, bad):
    model, opt = setup("MGDA")
    found = losses(model, rank)
    if rank == bad:
        p = model.module.trunk.bias
        found[0] = found[0] + (p[0] - p[0].detach()).abs().sqrt()  # 0, and its gradient is not
    return opt, lambda: opt.step(found)


def infinite_gradient_in_one_pass(rank, bad):
    model, opt = setup("PreferenceFeedback")
    found = losses(model, rank)
    if rank == bad:
        p = model.module.trunk.bias
        found[0] = found[0] + (p[0] - p[0].detach()).abs().sqrt()
    return opt, lambda: opt.step(found)


def freed_graph(rank, bad, method="MGDA"):
    model, opt = setup(method)
    found = losses(model, rank)
    if rank == bad:
        torch.autograd.grad(found[1], model.module.trunk.weight)
    return opt, lambda: opt.step(found)


def fails_within_a_pass(rank, bad):
    """The third pass ends at the trunk when the gradients of its head have been sent."""
    model, opt = setup("MGDA")
    values = losses(model, rank)
    passes = []

    def hook(_):
        passes.append(rank)
        if rank == bad and len(passes) == 3:
            raise ValueError("this hook of the user fails")

    model.module.trunk.bias.register_hook(hook)
    return opt, lambda: opt.step(values)


def freed_graph_of_a_product(rank, bad):
    return freed_graph(rank, bad, "SingleLoopMGDA")


def closure_raises(rank, bad):
    model, opt = setup()

    def closure():
        if rank == bad:
            raise KeyError("no such column")
        return losses(model, rank)

    return opt, lambda: opt.step(closure)


def other_start(rank, bad):
    model = ThreeHeads()
    if rank == bad:
        with torch.no_grad():
            model.trunk.weight[0, 0] += 1e-3
    opt = pyfront.EPO(sgd(model.parameters()), R, process_group=dist.group.WORLD)
    return opt, lambda: opt.step(losses(model, rank))


def bad_share(rank, bad):
    model, opt = setup()
    return opt, lambda: opt.step(losses(model, rank), share=-1 if rank == bad else 1)


def nobody_has_data(rank, bad):
    model, opt = setup()
    return opt, lambda: opt.step(losses(model, rank), share=[8, 0, 8])


def nobody_has_any_loss(rank, bad):
    _, opt = setup()
    return opt, lambda: opt.step([None] * 3)


def without(model, rank, bad):
    found = losses(model, rank)
    return [None if rank == bad and task == 1 else loss for task, loss in enumerate(found)]


def absent_from_a_micro_batch(rank, bad):
    model, opt = setup()
    return opt, lambda: opt.accumulate(without(model, rank, bad))


def absent_from_the_last_micro_batch(rank, bad):
    model, opt = setup()
    opt.accumulate(losses(model, rank))
    return opt, lambda: opt.step(without(model, rank, bad))


def named(model, rank, bad):
    names = ("a", "x", "c") if rank == bad else ("a", "b", "c")
    return dict(zip(names, losses(model, rank), strict=True))


def another_name_in_a_micro_batch(rank, bad):
    model, opt = setup("MGDA")
    opt.accumulate(named(model, rank, None))
    return opt, lambda: opt.accumulate(named(model, rank, bad))


def another_name_for_a_scalar(rank, bad):
    model, opt = setup("MGDA")
    opt.accumulate(named(model, rank, None))
    return opt, lambda: opt.scalarize(named(model, rank, bad))


def absent_beside_features(rank, bad):
    model, opt = setup()
    z, *outputs = model(part(batches()[0], rank, 2))
    found = losses_of(outputs, TARGETS)
    found[1] = None if rank == bad else found[1]
    return opt, lambda: opt.step(found, features=z)


def absent_from_a_closure_of_products(rank, bad):
    model, opt = setup("SingleLoopMGDA", products="forward")
    return opt, lambda: opt.step(lambda: without(model, rank, bad))


def nothing_said(rank, bad):
    model = ThreeHeads()
    opt = pyfront.MGDA(sgd(model.parameters()))
    return opt, lambda: opt.step(losses(model, rank))


# the fault, the class of the error, and what it says on every rank
FAULTS = {
    nan_loss: (ValueError, "rank 1: losses[1] = nan: must be finite"),
    detached: (ValueError, "rank 1: losses[2]"),
    fewer: (ValueError, "rank 1 has another number of losses than rank 0 (2, not 3)"),
    other_preference: (ValueError, "rank 1 has another preference than rank 0"),
    other_option: (ValueError, "rank 1 has another method or option than rank 0"),
    other_method: (ValueError, "rank 1 has another method or option than rank 0"),
    other_step: (ValueError, "rank 1 has another number of steps than rank 0"),
    accumulates: (ValueError, "rank 1 has another kind of call"),
    infinite_gradient: (ValueError, "its gradient is not finite"),
    infinite_gradient_in_one_pass: (ValueError, "weighted gradient is not finite"),
    freed_graph: (ValueError, "rank 1: losses[0]: its graph has been freed"),
    fails_within_a_pass: (ValueError, "rank 1: this hook of the user fails"),
    freed_graph_of_a_product: (ValueError, "rank 1: losses: its graph has been freed"),
    closure_raises: (KeyError, "rank 1: 'no such column'"),
    other_start: (ValueError, "rank 1 holds other values of its parameters than rank 0"),
    bad_share: (ValueError, "rank 1: share[0] = -1"),
    nobody_has_data: (ValueError, "share: no process has data for losses[1]"),
    nobody_has_any_loss: (ValueError, "losses: all are None"),
    absent_from_a_micro_batch: (
        ValueError,
        "losses[1]: None on rank 1, with data on rank 0: micro",
    ),
    another_name_in_a_micro_batch: (ValueError, "rank 1: losses['x']: is no task"),
    another_name_for_a_scalar: (ValueError, "rank 1: losses['x']: is no task"),
    absent_from_the_last_micro_batch: (ValueError, "same places; give share=0"),
    absent_beside_features: (
        ValueError,
        "losses[1]: None on rank 1, with data on rank 0: features",
    ),
    absent_from_a_closure_of_products: (ValueError, "with data on rank 0: products of a closure"),
    nothing_said: (RuntimeError, "group.WORLD"),
}


def faults(rank, world):
    """Return the class and text of each error, and whether anything had changed."""
    small_buckets()
    found = {}
    for fault in FAULTS:
        opt, call = fault(rank, 1)
        before = [p.detach().clone() for group in opt.param_groups for p in group["params"]]
        memory = dict(opt.memory)
        try:
            call()
            error = (None, "")
        except Exception as caught:
            error = (type(caught), str(caught))
        after = [p for group in opt.param_groups for p in group["params"]]
        same = all(torch.equal(p, q) for p, q in zip(before, after, strict=True))
        found[fault] = (*error, same and opt.memory == memory)
    return found


def scaled(rank, world):
    """An infinite gradient on one rank under a gradient scaler: no rank makes the step."""
    found = []
    for method in ("EPO", "PreferenceFeedback", "SingleLoopMGDA"):
        model, opt = setup(method)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        before = [p.detach().clone() for p in model.parameters()]
        values = losses(model, rank)
        if rank == 1:
            p = model.module.trunk.bias
            values[0] = values[0] + (p[0] - p[0].detach()).abs().sqrt()
        report = opt.backward(values, scaler=scaler)
        scaler.step(opt)
        scaler.update()
        same = all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
        found.append((report.status, same, scaler.get_scale()))
    return found


def dies(rank, world):
    """The second rank ends before the second step; return what the first says, and after when."""
    model, opt = setup()
    opt.step(losses(model, rank))
    values = losses(model, rank)
    if rank == 1:
        os._exit(7)
    try:
        opt.step(values)
    except RuntimeError as error:
        return str(error)


def never_calls(rank, world):
    model, opt = setup()
    values = losses(model, rank)
    if rank == 1:
        time.sleep(8)
        return None
    try:
        opt.step(values)
    except RuntimeError as error:
        return str(error)

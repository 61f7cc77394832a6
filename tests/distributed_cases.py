"""Training runs that are the same in one process on the whole batch and in several on parts."""

from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

import pyfront
from pyfront.distributed import averaging

STEPS, BATCH = 12, 16


class ThreeHeads(nn.Module):
    """A trunk, a head for each of three tasks, and a parameter that nothing reaches."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(6, 8)
        self.heads = nn.ModuleList([nn.Linear(8, k) for k in (3, 2, 1)])
        self.unused = nn.Parameter(torch.ones(2))
        self.double()

    def forward(self, x):
        z = torch.tanh(self.trunk(x))
        return [z, *(head(z) for head in self.heads)]


def losses_of(outputs, y):
    """Three losses with different scales; their means over parts of a batch are its own."""
    a, b, c = (((o - t.to(o.dtype)) ** 2).mean() for o, t in zip(outputs, y, strict=True))
    return [a + 0.1, 3.0 * b + 0.2, 0.3 * c + 0.1]


TARGETS = [torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, -2.0]), torch.tensor([-1.5])]


def batches(seed=1, size=BATCH):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 6, generator=generator).double() for _ in range(STEPS)]


def part(x, rank, world):
    return x[rank::world]


def sgd(params):
    return torch.optim.SGD(params, lr=0.05, momentum=0.9)


def adamw(params):
    return torch.optim.AdamW(params, lr=0.01, weight_decay=0.1)


R = [0.5, 0.3, 0.2]
VECTORS = np.array([[0.8, 0.4, 0.3], [0.3, 0.8, 0.5]])

METHODS = {
    "EPO": lambda base, **o: pyfront.EPO(base, R, **o),
    "MGDA": pyfront.MGDA,
    "ParetoMTL": lambda base, **o: pyfront.ParetoMTL(base, VECTORS, 0, warmup_steps=4, **o),
    "LinearScalarization": lambda base, **o: pyfront.LinearScalarization(base, R, **o),
    "PreferenceFeedback": lambda base, **o: pyfront.PreferenceFeedback(base, R, **o),
    "SmoothTchebycheff": lambda base, **o: pyfront.SmoothTchebycheff(base, R, **o),
    "UncertaintyWeighting": lambda base, **o: pyfront.UncertaintyWeighting(base, 3, **o),
    "DynamicWeightAverage": pyfront.DynamicWeightAverage,
    "GradNorm": pyfront.GradNorm,
    "ConstraintFeedback": lambda base, **o: pyfront.ConstraintFeedback(
        base, 0, {1: 2.0, 2: 0.3}, **o
    ),
    "FERERO": lambda base, **o: pyfront.FERERO(base, R, **o),
    "SingleLoopMGDA": pyfront.SingleLoopMGDA,
    **{name: getattr(pyfront, name) for name in ("AlignedMTL", "CAGrad", "ConFIG", "DBMTL")},
    **{name: getattr(pyfront, name) for name in ("FairGrad", "FAMO", "IMTLG", "NashMTL")},
    **{name: getattr(pyfront, name) for name in ("PCGrad", "UPGrad")},
}


def mode(**options):
    return dict(options)


# what a run may do otherwise than a plain one
RUNS = {
    **{name: mode(method=name) for name in METHODS},
    "adamw": mode(base=adamw),
    "adamw, one pass": mode(method="PreferenceFeedback", base=adamw),
    "float32": mode(dtype=torch.float32, lr=0.002),
    "every": mode(options={"every": 3}),
    "smoothed": mode(options={"weight_smoothing": 0.8}),
    "shared": mode(options={"gramian_over": "shared"}),
    "own": mode(options={"gramian_over": "shared", "task_gradients": "own", "scale": "sum"}),
    "clipped": mode(clip=0.5),
    "fixed": mode(fixed=True),
    "fixed, one pass": mode(method="PreferenceFeedback", fixed=True),
    "fixed, products": mode(method="SingleLoopMGDA", fixed=True),
    "micro-batches": mode(micro=2),
    "scaler": mode(scaler=True, base=adamw),
    "closure": mode(closure=True),
    "products by a closure": mode(
        method="SingleLoopMGDA", closure=True, options={"products": "forward"}
    ),
    "second batch": mode(method="SingleLoopMGDA", second=True),
    "scalar": mode(scalarize=True),
    "scalar, one pass": mode(method="PreferenceFeedback", scalarize=True),
    "features": mode(features=True),
    "upper bound": mode(features=True, options={"upper_bound": True}),
    "preference of a call": mode(one_off=True),
    "rises": mode(base=adamw, options={"track_rises": True}),
    "rises, one pass": mode(method="PreferenceFeedback", options={"track_rises": True}),
}


def run(name, rank, world, wrap, *, group=None, steps=STEPS, uneven=False):
    """Return the parameters after training, and the weights of each step."""
    how = RUNS[name]
    if how.get("scalarize") and wrap is DistributedDataParallel:  # one parameter is never reached
        wrap = partial(wrap, find_unused_parameters=True)
    model = wrap(ThreeHeads().to(how.get("dtype", torch.float64)))
    params = list(model.parameters())
    base = how.get("base", sgd)(params)
    base.param_groups[0]["lr"] = how.get("lr", base.param_groups[0]["lr"])
    options = dict(how.get("options", {}))
    if group is not None:
        options["process_group"] = group
    opt = METHODS[how.get("method", "EPO")](base, **options)
    weights = []
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if how.get("scaler") else None
    seconds = batches(seed=7)
    for x, x2 in zip(batches()[:steps], seconds, strict=False):
        x, x2 = x.to(params[0].dtype), x2.to(params[0].dtype)
        mine = slice(0, 12) if uneven and rank == 0 else slice(12, 16)
        x = x[mine] if uneven and world > 1 else part(x, rank, world)
        more = {"share": len(x)} if uneven and world > 1 else {}
        report = one_step(opt, base, model, params, x, part(x2, rank, world), how, scaler, more)
        weights.append(report.weights)
    return {
        "parameters": [_full(p) for p in params],
        "weights": torch.stack(weights),
        "losses": report.losses,
        "changes": {n: v for n, v in opt.metrics().items() if n.startswith(("change", "rising"))},
    }


def one_step(opt, base, model, params, x, x2, how, scaler, more):
    if how.get("one_off"):
        more = {**more, "preference": (0.2 + 0.6 * torch.rand(3, generator=_generator)).tolist()}
    if how.get("closure"):
        return opt.step(lambda: losses_of(model(x)[1:], TARGETS), **more)
    micro = how.get("micro", 1)
    pieces = x.chunk(micro)
    for piece in pieces[:-1]:
        opt.accumulate([loss / micro for loss in losses_of(model(piece)[1:], TARGETS)])
    z, *outputs = model(pieces[-1])
    losses = [loss / micro for loss in losses_of(outputs, TARGETS)]
    if how.get("fixed"):
        more = {**more, "fixed": 0.01 * (z**2).mean()}
    if how.get("second"):
        more = {**more, "second": losses_of(model(x2)[1:], TARGETS)}
    if how.get("features"):
        more = {**more, "features": z}
    if how.get("scalarize"):
        opt.zero_grad()
        opt.scalarize(losses, **more).backward()
        opt.step()
        return opt.report
    if scaler is not None:
        report = opt.backward(losses, scaler=scaler, **more)
        scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(params, 10.0)
        scaler.step(opt)
        scaler.update()
        return report
    report = opt.backward(losses, **more)
    if "clip" in how:
        torch.nn.utils.clip_grad_norm_(params, how["clip"])
    opt.step()
    return report


_generator = torch.Generator().manual_seed(3)


def _full(p):
    found = p.full_tensor() if hasattr(p, "full_tensor") else p
    return found.detach().clone()


def train(names, rank, world, wrap=lambda model: model, **how):
    """Return the result of each run, or the error of one that failed."""
    found = {}
    for name in names:
        _generator.manual_seed(3)
        found[name] = run(name, rank, world, wrap, **how)
    return found


def same(found, expected):
    for p, q in zip(found["parameters"], expected["parameters"], strict=True):
        assert (p - q).abs().max() < (1e-7 if p.dtype is torch.float32 else 1e-9)
    for name, change in expected.get("changes", {}).items():
        assert abs(found["changes"][name] - change) < 1e-9


# --------------------------------------------------------------------------------- in the processes


def small_buckets():
    """Let a row of these small models travel in several buckets, and so within its pass."""
    averaging.SMALLEST = 1


def ddp(rank, world, names):
    small_buckets()
    return train(names, rank, world, DistributedDataParallel, group=dist.group.WORLD)


def bare(rank, world, names):
    return train(names, rank, world, group=dist.group.WORLD)


def uneven(rank, world):
    return train(UNEVEN, rank, world, DistributedDataParallel, group=dist.group.WORLD, uneven=True)


BARE = ["EPO", "PreferenceFeedback", "SingleLoopMGDA", "fixed"]  # each row in one bucket

UNEVEN = ["EPO", "PreferenceFeedback", "SingleLoopMGDA", "micro-batches", "fixed", "features"]


WITHOUT = ["MGDA", "EPO", "PreferenceFeedback", "SingleLoopMGDA", "scalar", "seldom", "fixed"]


def without_data(rank, world, absent):
    """Train where the second task has examples on rank 0 alone.

    On rank 1 its loss is None, or NaN with a share of 0; rank 1 has nothing at all every third
    step, when the third task has no data anywhere.
    """
    found = {}
    for name in WITHOUT:
        model = ThreeHeads()
        opt = METHODS[name if name in METHODS else "EPO"](sgd(model.parameters()))
        if world > 1:
            opt.process_group = dist.group.WORLD
        weights = []
        for step, x in enumerate(batches()):
            nothing = name == "seldom" and step % 3 == 2
            first = losses_of(model(part(x, 0, 2))[1:], TARGETS)
            losses, more = losses_of(model(part(x, rank, world))[1:], TARGETS), {}
            if world == 1:
                losses = [first[0] if nothing else losses[0], first[1], losses[2]]
            elif rank == 1 and absent == "None":
                losses[1] = None
            elif absent == "share=0":
                losses[1] = losses[1] if rank == 0 else losses[1] * torch.nan
                more = {"share": [8, 8 * (rank == 0), 8]}
            if nothing:
                losses[2] = None
                if world > 1:
                    losses = losses if rank == 0 else [None] * 3
                    more = {"share": 8} if more else {}
            if name == "fixed":
                more["fixed"] = 0.01 * (model(part(x, rank, world))[0] ** 2).mean()
            if name == "scalar":
                opt.zero_grad()
                opt.scalarize(losses, **more).backward()
                opt.step()
            else:
                opt.step(losses, **more)
            weights.append(opt.report.weights)
        found[name] = {
            "parameters": [_full(p) for p in model.parameters()],
            "weights": torch.stack(weights),
        }
    return found


# --------------------------------------------------------------------------------- sharded models


def _sharded(model):
    from torch.distributed.fsdp import fully_shard

    for module in (model.trunk, *model.heads):
        fully_shard(module)
    return fully_shard(model)


def fsdp2(rank, world, names):
    return train(names, rank, world, _sharded)


def hybrid(rank, world, names):
    """Shards within two pairs of processes, which are replicas of each other."""
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("replicate", "shard"))
    return train(names, rank, world, lambda model: fully_shard(model, mesh=mesh))


def tensor_parallel(rank, world, names):
    mesh = init_device_mesh("cpu", (world,), mesh_dim_names=("tp",))
    return train(names, 0, 1, lambda model: _cut(model, mesh))


def two_dimensions(rank, world, names):
    """Tensor parallel in two pairs of processes, FSDP2 across them."""
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("dp", "tp"))
    place = mesh["dp"].get_local_rank()
    return train(
        names, place, 2, lambda model: fully_shard(_cut(model, mesh["tp"]), mesh=mesh["dp"])
    )


def _cut(model, mesh):
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    plan = {"trunk": ColwiseParallel(), "heads.0": RowwiseParallel(), "heads.1": RowwiseParallel()}
    return parallelize_module(model, mesh, {**plan, "heads.2": RowwiseParallel()})


def four(rank, world, names):
    return {"hybrid": hybrid(rank, world, names), "2-D": two_dimensions(rank, world, names)}

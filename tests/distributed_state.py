"""Checkpoints between numbers of processes, roles, and what is refused."""

import copy
import pickle

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from distributed_cases import TARGETS, R, ThreeHeads, adamw, batches, losses_of, part, sgd
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

import pyfront


def sharded():
    """Return a model, cut where there are several processes, and its optimizer."""
    model = ThreeHeads()
    del model.unused  # torch's checkpoints want state of every parameter
    model = fully_shard(model)
    return model, pyfront.EPO(adamw(model.parameters()), R, weight_smoothing=0.5)


def steps(model, opt, rank, world, which):
    for x in batches()[which]:
        opt.step(losses_of(model(part(x, rank, world))[1:], TARGETS))


def whole(model):
    return [
        (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
        for p in model.parameters()
    ]


def save(rank, world, folder):
    model, opt = sharded()
    steps(model, opt, rank, world, slice(0, 6))
    model_state, opt_state = get_state_dict(model, opt)
    dcp.save({"model": model_state, "opt": opt_state}, checkpoint_id=folder)
    steps(model, opt, rank, world, slice(6, 12))
    return whole(model)


def resume(rank, world, folder):
    model, opt = sharded()
    model_state, opt_state = get_state_dict(model, opt)
    state = {"model": model_state, "opt": opt_state}
    dcp.load(state, checkpoint_id=folder)
    set_state_dict(model, opt, model_state_dict=state["model"], optim_state_dict=state["opt"])
    steps(model, opt, rank, world, slice(6, 12))
    return whole(model)


class Routed(nn.Module):
    """A head that the second task uses for some inputs only: here those of rank 1."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head, self.other = nn.Linear(6, 4), nn.Linear(4, 1), nn.Linear(4, 1)
        self.double()

    def forward(self, x, second):
        z = torch.tanh(self.trunk(x))
        a = (self.head(z) ** 2).mean()
        b = ((z.sum(1, keepdim=True) - 1) ** 2).mean()
        return [a, b + (0.1 * self.head(z[:, :4]).abs().mean() if second else 0.0)]


def roles(rank, world):
    """Two tasks reach the head, but on rank 1 alone: it is shared on both."""
    model = Routed()
    opt = pyfront.MGDA(sgd(model.parameters()), gramian_over="shared", task_gradients="own")
    opt.process_group = dist.group.WORLD
    opt.step(model(batches()[0], rank == 1))
    return opt.state_dict()["param_groups"][0]["pyfront"], [
        p.detach().clone() for p in model.parameters()
    ]


def refusals(rank, world):
    """Return what each misuse says."""
    model = ThreeHeads()
    said = {}

    def note(name, call):
        try:
            call()
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"

    def opt(params, **options):
        return pyfront.MGDA(sgd(list(params)), **options)

    only = dist.new_group([0])
    if rank == 1:
        note("not in the group", lambda: opt(model.parameters(), process_group=only))
    note("no group", lambda: opt(model.parameters(), process_group="world"))
    for original in (False, True):
        flat = FullyShardedDataParallel(
            nn.Linear(4, 2), use_orig_params=original, device_id=torch.device("cpu")
        )
        values = list((flat(torch.ones(3, 4)) ** 2).mean(0))
        note(f"FSDP1, {original}", lambda: opt(flat.parameters()).step(values))  # noqa: B023
    plain = nn.Parameter(torch.ones(3))
    another = dist.new_group(backend="cuda:gloo")
    note(
        "backend",
        lambda: opt([plain], process_group=another).step([plain.sum(), (plain**2).sum()]),
    )
    apart = [
        nn.Parameter(distribute_tensor(torch.ones(4), DeviceMesh("cpu", [place]), [Shard(0)]))
        for place in range(2)
    ]
    note("meshes apart", lambda: opt(apart).step([plain.sum(), (plain**2).sum()]))
    zero = nn.Parameter(torch.ones(3))
    zero.ds_id = 0
    note("DeepSpeed", lambda: opt([zero]).step([zero.sum(), (zero**2).sum()]))
    stage = nn.Parameter(torch.ones(3 + rank))
    group = dist.group.WORLD
    note(
        "pipeline",
        lambda: opt([stage], process_group=group).step([stage.sum(), (stage**2).sum()]),
    )
    mesh = init_device_mesh("cpu", (2,))
    cut = fully_shard(ThreeHeads(), mesh=mesh)
    both, one = opt(cut.parameters(), process_group=group), opt(cut.parameters())
    bound = opt(cut.parameters(), upper_bound=True)
    products = pyfront.SingleLoopMGDA(sgd(cut.parameters()))
    losses = losses_of(cut(batches()[0])[1:], TARGETS)
    note("a mesh and a group", lambda: both.step(losses))
    note("features", lambda: one.step(losses, features=losses[0].detach()))
    note("upper bound", lambda: bound.step(losses))
    note("second batch", lambda: products.step(losses, second=losses))
    some = [loss if task != rank else None for task, loss in enumerate(losses)]
    note("absent task", lambda: one.step(some))
    p = nn.Parameter(distribute_tensor(torch.ones(4), mesh, [Shard(0)]))
    beside = nn.Parameter(torch.full((2,), 1.0 + rank))
    note(
        "plain parameters differ",
        lambda: opt([p, beside]).step(
            [beside.sum() + (p**2).sum().full_tensor(), beside.prod() + p.sum().full_tensor()]
        ),
    )
    kept = opt(model.parameters(), process_group=group)
    copies = [copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))]
    said["copies"] = [c.process_group for c in copies]
    own = opt(model.parameters(), process_group=False)
    said["own model"] = own.step(losses_of(model(batches()[rank])[1:], TARGETS)).status
    return said

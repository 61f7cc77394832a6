"""What travels in a step, counted where the collectives are called."""

import numpy as np
import torch
import torch.distributed as dist
from distributed_cases import METHODS, R, ThreeHeads, batches, sgd
from distributed_faults import losses, setup
from torch import nn
from torch.distributed.fsdp import fully_shard


def traffic(rank, world):
    """Return the entries that each kind of step sends, by collective."""
    counted = {}
    for method in ("MGDA", "PreferenceFeedback", "SingleLoopMGDA", "UncertaintyWeighting"):
        model, opt = setup(method)
        reduced = []
        model.register_comm_hook(reduced, _reducer)
        opt.step(_reaching_all(model, rank))
        values = _reaching_all(model, rank)
        with Counting() as counting:
            opt.step(values)
        sent = {name: entries for name, entries in counting.entries.items() if entries}
        counted[method] = {**sent, "reducer": len(reduced)}
    sum(_reaching_all(model, rank)).backward()
    counted["sum"] = len(reduced)
    return counted


def sharded_traffic(rank, world):
    """Return the entries that a step on FSDP2 sends, where parameters are gathered anew or kept."""
    counted = {}
    for method in ("MGDA", "PreferenceFeedback", "SingleLoopMGDA"):
        for kept in (False, True):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
            for module in (model[0], model[2], model):
                fully_shard(module, reshard_after_forward=not kept)
            model[0].set_reshard_after_backward(not kept)
            model[2].set_reshard_after_backward(not kept)
            opt = METHODS[method](sgd(model.parameters()))
            for x in batches()[:2]:
                values = [(column**2).mean() + 0.1 for column in model(x).T[:3]]
                with Counting() as counting:
                    opt.step(values)
            counted[method, kept] = list(counting.entries.values())
    return counted, sum(p.numel() for p in model.parameters())


def _reaching_all(model, rank):
    first, *others = losses(model, rank)
    return [first + 0.0 * model.module.unused.sum(), *others]


def _reducer(reduced, bucket):
    """What DistributedDataParallel calls for each bucket."""
    reduced.append(bucket.index())
    future = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


COUNTED = {  # the place among the arguments of the tensor that is counted
    "all_reduce": 0,
    "all_gather": 1,
    "broadcast": 0,
}
if hasattr(dist, "all_gather_single"):  # what fully_shard calls since torch 2.13
    COUNTED.update({"all_gather_single": 0, "reduce_scatter_single": 1})
else:
    COUNTED.update({"all_gather_into_tensor": 0, "reduce_scatter_tensor": 1})


class Counting:
    """Count the entries that collectives send in this process."""

    def __enter__(self):
        self.entries = dict.fromkeys(COUNTED, 0)
        self.calls = dict.fromkeys(COUNTED, 0)
        self.before = {name: getattr(dist, name) for name in COUNTED}
        for name in COUNTED:
            setattr(dist, name, self.counted(name))
        return self

    def counted(self, name):
        def call(*args, **options):
            tensor = [*args, *options.values()][COUNTED[name]]
            self.entries[name] += tensor.numel()
            self.calls[name] += 1
            return self.before[name](*args, **options)

        return call

    def __exit__(self, *_):
        for name, function in self.before.items():
            setattr(dist, name, function)


def size():
    params = list(ThreeHeads().parameters())
    return sum(p.numel() for p in params), len(params), int(np.array(R).size)

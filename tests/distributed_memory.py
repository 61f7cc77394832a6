"""The most that a step holds beside parameters, ``.grad`` and activations."""

import itertools
from functools import partial

import torch
import torch.distributed as dist
from distributed_cases import small_buckets
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import pyfront

M, WIDTH, LAYERS = 3, 256, 6


def model_of():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, M))


def losses_of(model):
    return list((model(torch.ones(2, WIDTH)) ** 2).mean(0) + 0.1)


def optimizer(model, **options):
    return pyfront.EPO(torch.optim.SGD(model.parameters(), lr=1e-3), [0.5, 0.3, 0.2], **options)


def peak(call):
    """The most bytes that torch's allocator holds beyond those at the start."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        call()
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in changes), default=0)


def replicas(rank, world, small):
    """Return the bytes of a row, and those that the first step takes and the third one more."""
    if small:
        small_buckets()
    model = DistributedDataParallel(model_of())
    opt = optimizer(model, process_group=dist.group.WORLD)
    taken = []
    for _ in range(3):
        values = losses_of(model)
        taken.append(peak(partial(opt.step, values)))
    row = sum(4 * p.numel() for p in model.parameters())
    return row, taken[0], taken[2]


def shards(rank, world):
    """Return the bytes of a row's shard, and those that a plain pass and a step hold.

    Each is the least of several: gloo's threads let go of what they have sent some time after it
    has arrived, and whole gathered layers then stay for a moment, in plain passes and in steps.
    """
    model = model_of()
    for layer in [*model, model]:
        fully_shard(layer)
    opt = optimizer(model)
    for _ in range(2):
        opt.step(losses_of(model))
    shard = sum(4 * p.to_local().numel() for p in model.parameters())
    plain, held = [], []
    for _ in range(6):
        opt.zero_grad()
        plain.append(peak(sum(losses_of(model)).backward))
        opt.step(losses_of(model))
        held.append(peak(partial(opt.step, losses_of(model))))
    return shard, min(plain), min(held)

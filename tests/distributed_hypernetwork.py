"""One network for every preference, trained in one process and in several on parts of a batch."""

import torch
import torch.distributed as dist
from distributed_cases import TARGETS, ThreeHeads, adamw, batches, losses_of, part
from torch.nn.parallel import DistributedDataParallel

import pyfront
from pyfront import preferences

EVEN = [1 / 3] * 3


def preference_sets(count):
    """Return the preferences of each step, [count, 3], the same in every process."""
    generator = torch.Generator().manual_seed(5)
    return [preferences.sample(3, count, generator=generator) for _ in batches()]


def one(net, opt, x, p):
    return opt.step(losses_of(net(x, preference=p[0])[1:], TARGETS), preference=p[0])


def eight(net, opt, x, p):
    outputs = net(x, preference=p)
    losses = [loss for found in outputs for loss in losses_of(found[1:], TARGETS)]
    return opt.step(losses, preference=p)


def regions(net, opt, x, p):
    losses = losses_of(net(x, preference=p[0])[1:], TARGETS)
    return opt.step(losses, reference_vectors=preferences.to_reference_vectors(p))


def scalar(net, opt, x, p):
    opt.zero_grad()
    losses = losses_of(net(x, preference=p[0])[1:], TARGETS)
    opt.scalarize(losses, preference=p[0]).backward()
    opt.step()
    return opt.report


def feedback(base, **options):
    return pyfront.PreferenceFeedback(base, EVEN, proportional=10.0, **options)


def epo(base, **options):
    return pyfront.EPO(base, EVEN, **options)


def pareto_mtl(base, **options):
    vectors = preferences.das_dennis(3, 1)
    return pyfront.ParetoMTL(base, vectors, 0, schedule="alternating", **options)


RUNS = {
    "EPO": (epo, one, 1),
    "PreferenceFeedback": (feedback, eight, 8),
    "ParetoMTL": (pareto_mtl, regions, 4),
    "scalar": (epo, scalar, 1),
}


def train(name, rank, world, wrap=lambda net: net):
    """Return the parameters of the network after training; some of them serve all preferences."""
    method, step, count = RUNS[name]
    model = ThreeHeads()
    del model.unused
    torch.manual_seed(2)
    generated = [n for n, _ in model.named_parameters() if not n.startswith("heads.2")]
    net = pyfront.HyperNetwork(model, num_tasks=3, parameters=generated, plain=True)
    called = wrap(net)  # whose parameters() are in DDP also the places of generated ones, all NaN
    opt = method(adamw(list(called.parameters())))
    if world > 1:
        opt.process_group = dist.group.WORLD
    weights = []
    for x, p in zip(batches(), preference_sets(count), strict=True):
        weights.append(step(called, opt, part(x, rank, world), p).weights)
    return {
        "parameters": [p.detach().clone() for p in net.parameters()],
        "weights": torch.stack(weights),
    }


def data_parallel(net):
    return DistributedDataParallel(net, find_unused_parameters=True)  # no gradient at the places


def replicas(rank, world):
    return {
        kind: {name: train(name, rank, world, wrap) for name in RUNS}
        for kind, wrap in (("bare", lambda net: net), ("DDP", data_parallel))
    }


def differences(rank, world):
    """Return what is said where processes draw preferences, or a start, of their own."""
    said = []
    for start, draw in ((0, rank), (rank, 0)):
        model = ThreeHeads()  # sets the seed itself
        torch.manual_seed(start)
        net = pyfront.HyperNetwork(model, num_tasks=3, plain=True)
        listed = [*net.parameters(), *net.replaced().values()]  # as a module around it lists them
        opt = epo(adamw(listed), process_group=dist.group.WORLD)
        try:
            one(net, opt, batches()[0], preference_sets(4)[0][draw:])
        except ValueError as error:
            said.append(str(error))
    return said

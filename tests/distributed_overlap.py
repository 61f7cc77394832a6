"""What is sent from within a backward pass, and what it must not be mistaken for."""

import copy
import pickle

import torch
import torch.distributed as dist
from distributed_cases import METHODS, TARGETS, ThreeHeads, batches, losses_of, part, sgd
from torch import nn

import pyfront
from pyfront._utils.torch_private import backward_pass
from pyfront.distributed import averaging


class Sending:
    """Note for each asynchronous all-reduce whether a backward pass runs, and the mean it gets."""

    def __enter__(self):
        self.places, self.send = [], dist.all_reduce
        dist.all_reduce = self.noted
        return self.places

    def noted(self, tensor, *args, **options):
        if options.get("async_op"):
            self.places.append("after" if backward_pass() is None else "within")
        return self.send(tensor, *args, **options)

    def __exit__(self, *_):
        dist.all_reduce = self.send


def places(rank, world):
    """Return where each method's buckets were sent, and how many a row has."""
    averaging.SMALLEST = 1
    found = {}
    for method in ("MGDA", "PreferenceFeedback", "SingleLoopMGDA"):
        model = ThreeHeads()
        opt = METHODS[method](sgd(model.parameters()), process_group=dist.group.WORLD)
        for x in batches()[:2]:
            losses = losses_of(model(part(x, rank, world))[1:], TARGETS)
            with Sending() as sent:
                opt.step(losses)
        found[method] = sent
    return found, len(averaging.buckets_of(list(ThreeHeads().parameters())))


def left_alone(rank, world):
    """Return what has hooks after two steps, how often one ran, and buckets of copies."""
    averaging.SMALLEST = 1
    model = ThreeHeads()
    seen = []
    model.trunk.weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    opt = METHODS["MGDA"](sgd(model.parameters()), process_group=dist.group.WORLD)
    for x in batches()[:2]:
        opt.step(losses_of(model(part(x, rank, world))[1:], TARGETS))
    hooked = [name for name, p in model.named_parameters() if p._backward_hooks]
    copies = [copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))]
    return hooked, len(seen), [len(o._shared.buckets) for o in (opt, *copies)]


class Inner(torch.autograd.Function):
    """w x, whose backward pass runs another one over w before it returns that of x."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.T

    @staticmethod
    def backward(ctx, gradient):
        x, w = ctx.saved_tensors
        with torch.enable_grad():
            again = (7.0 * x.detach() @ w.T * gradient.detach()).sum()
        (seven,) = torch.autograd.grad(again, w)
        return gradient @ w, seven / 7.0


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)
        self.double()

    def forward(self, x):
        z = torch.tanh(Inner.apply(x, self.first.weight) + self.first.bias)
        return Inner.apply(z, self.second.weight) + self.second.bias


def nested(rank, world):
    """Return the parameters after training where backward passes run inside backward passes."""
    averaging.SMALLEST = 1
    model = Nested()
    opt = pyfront.MGDA(sgd(model.parameters()))
    if world > 1:
        opt.process_group = dist.group.WORLD
    for x in batches():
        opt.step(list(((model(part(x, rank, world)) - 1.0) ** 2).mean(0)))
    return {"parameters": [p.detach().clone() for p in model.parameters()]}


class Wide(nn.Module):
    """A trunk, then three heads that are larger than a bucket."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(6, 4)
        self.heads = nn.ModuleList([nn.Linear(4, 50) for _ in range(3)])

    def forward(self, x):
        z = torch.tanh(self.trunk(x))
        return [(head(z) ** 2).mean() for head in self.heads]


def heads_of_others(rank, world):
    """Return where buckets were sent of which a pass reaches no parameter, or some."""
    averaging.SMALLEST = 1
    torch.manual_seed(0)
    model = Wide()
    opt = pyfront.MGDA(sgd(model.parameters()), process_group=dist.group.WORLD)
    with Sending() as sent:
        opt.step(model(part(batches()[0].float(), rank, world)))
    return sent, len(averaging.buckets_of(list(model.parameters())))

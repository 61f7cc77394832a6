"""One network for all preferences: methods, the loop that trains it, and problem (22)."""

import time

import torch
from torch import nn

import pyfront
from pyfront import preferences
from pyfront.problems import SineProblem

__all__ = ["METHODS", "curve", "even", "train_generator"]


def even(tasks):
    return [1.0 / tasks] * tasks


def proportional(strength):
    """w ∝ r exp(k z): what preference feedback makes of a preference for one call."""
    return (
        lambda base, m: pyfront.PreferenceFeedback(base, even(m), proportional=strength),
        lambda p: {"preference": p},
    )


#: name → how it wraps the base optimizer for m tasks, and what a step at preference p is told
METHODS = {
    "linear": (
        lambda base, m: pyfront.LinearScalarization(base, even(m)),
        lambda p: {"preference": p / p.sum()},
    ),
    "Pareto MTL, literal (8)": (
        lambda base, m: pyfront.ParetoMTL(base, preferences.das_dennis(m, 1), 0, warmup_steps=0),
        lambda p: {"reference_vectors": preferences.decompose(p, 3)},
    ),
    "Pareto MTL": (
        lambda base, m: pyfront.ParetoMTL(
            base, preferences.das_dennis(m, 1), 0, schedule="alternating"
        ),
        lambda p: {"reference_vectors": preferences.decompose(p, 20)},
    ),
    "EPO": (lambda base, m: pyfront.EPO(base, even(m)), lambda p: {"preference": p}),
    "proportional, k = 30": proportional(30.0),
    "proportional, k = 10": proportional(10.0),
}


def train_generator(net, method, losses, steps, rate, draw):
    """The ordinary loop: draw a preference, take the losses of its network, step.

    Args:
        net: the hypernetwork.
        method: a key of `METHODS`.
        losses: a function of net and p that draws a batch and returns the m losses.
        steps: how many; the learning rate falls to 0 along a cosine.
        rate: Adam's learning rate at the start.
        draw: a function that returns a preference [m].
    """
    wrap, options = METHODS[method]
    base = torch.optim.Adam(net.parameters(), lr=rate)
    opt = wrap(base, net.num_tasks)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)
    for _ in range(steps):
        p = draw()
        opt.step(losses(net, p), **options(torch.as_tensor(p)))
        schedule.step()


class Point(nn.Module):
    """A main network that is nothing but its parameters θ."""

    def __init__(self, problem):
        super().__init__()
        self.problem = problem
        self.theta = nn.Parameter(torch.randn(problem.n))

    def forward(self):
        return self.problem.losses(self.theta)


def curve(method, seed, steps):
    """The losses at 101 preferences, their distance from the front, gap and angles."""
    torch.manual_seed(seed)
    problem = SineProblem(n=10)
    net = pyfront.HyperNetwork(Point(problem), 2, plain=True)
    began = time.process_time()
    train_generator(
        *(net, method, lambda net, p: net(preference=p), steps, 1e-3),
        lambda: preferences.sample(2, 1)[0],
    )
    directions = preferences.circle(101).float()
    with torch.no_grad():  # m = 2: 1/u has the direction of u with its entries exchanged
        found = torch.stack(net(preference=directions.flip(1)))
    apart = torch.cdist(found, problem.front(2001).float())
    cosine = torch.cosine_similarity(found, directions, dim=1).clamp(-1.0, 1.0)
    angles = torch.rad2deg(torch.arccos(cosine))
    return {
        "curve": [[round(v, 4) for v in row] for row in found.tolist()],
        "distance": apart.amin(1).max().item(),
        "gap": apart.amin(0).max().item(),
        "angle": angles.mean().item(),
        "largest": angles.max().item(),
        "seconds": time.process_time() - began,
    }

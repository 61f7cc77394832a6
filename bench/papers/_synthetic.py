"""Full gradients on the problems with known fronts: runs, rates, and what is measured of them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import pyfront
from pyfront.functional import gramian, min_norm_weights, non_uniformity

__all__ = ["PLACES", "RATES", "End", "after", "descend", "feedback", "start", "tuned"]

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
PLACES = ("inside", "outside")


class End(NamedTuple):
    """The losses along a run [steps + 1, m], and the parameters and the status at its end."""

    path: np.ndarray
    theta: torch.Tensor
    status: str

    @property
    def losses(self):
        return self.path[-1]


def start(problem, seed, place):
    """|θ_i| ≤ 1/√n, a box that holds the Pareto set of (19); outside: 1/√n ≤ |θ_i| ≤ 2/√n."""
    generator = torch.Generator().manual_seed(seed)
    unit = 2.0 * torch.rand(problem.n, generator=generator, dtype=torch.float64) - 1.0
    return (unit + (0.0 if place == "inside" else 1.0) * unit.sign()) / problem.n**0.5


def descend(problem, make, theta, steps, rate):
    """Plain gradient steps of a constant rate under the method `make(base)`."""
    theta = nn.Parameter(theta.clone())
    opt, path, status = make(torch.optim.SGD([theta], lr=rate)), [], "ok"
    for _ in range(steps):
        losses = problem.losses(theta)
        path.append(losses.detach().numpy())
        status = opt.step(losses).status
    path.append(problem.losses(theta.detach()).numpy())
    return End(np.array(path), theta.detach(), status)


def tuned(problem, makers, rays, steps, place, worst=True):
    """The rate of least mean of max_j r_j l_j, or of Σ_j r_j l_j, for three makers at seed 0."""
    chosen = sorted({0, len(makers) // 2, len(makers) - 1})

    def score(rate):
        ends = [descend(problem, makers[k], start(problem, 0, place), steps, rate) for k in chosen]
        relative = np.array([rays[k] * end.losses for k, end in zip(chosen, ends, strict=True)])
        return (relative.max(axis=1) if worst else relative.sum(axis=1)).mean()

    return min(RATES, key=score)


def feedback(r):
    """Feedback without noise and at a constant rate: no average, which is a delay, and no floor.

    Scheduled and constant gains are then the same.
    """
    return lambda base: pyfront.PreferenceFeedback(base, r, averaging=0.0, integral=0.3, floor=1e-6)


def after(problem, end, r=None):
    """The norm of the smallest convex combination of the gradients, 0 on the front; and μ."""
    theta = end.theta.clone().requires_grad_()
    losses = problem.losses(theta)
    rows = [
        torch.autograd.grad(loss, theta, retain_graph=k + 1 < len(losses))
        for k, loss in enumerate(losses)
    ]
    c = gramian(rows)
    w = min_norm_weights(c).weights
    critical = float((w @ c @ w).clamp_min(0.0).sqrt())
    return critical, None if r is None else non_uniformity(end.losses, r)

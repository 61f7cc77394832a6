"""What the experiments of controllable Pareto multi-task learning share: methods and the loop."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import pyfront
from pyfront import preferences


class Proportional(pyfront.MultiTaskOptimizer):
    """w ∝ r exp(k z), z = log(m r∘l / Σ r_j l_j): the proportional part of preference feedback.

    With K m losses and preferences, those of K preferences in one step, each of the K has its own
    weights.
    """

    needs = "losses"
    preference_domain = "positive"

    def __init__(self, base, preference, strength):
        super().__init__(base, preference)
        self.strength, self.num_tasks = strength, len(preference)

    def decide(self, losses, gramian, preference):
        relative = np.maximum(preference * losses, 1e-300).reshape(-1, self.num_tasks)
        z = np.log(self.num_tasks * relative / relative.sum(axis=1, keepdims=True))
        z = np.clip(z, -3.0, 3.0)
        weights = preference.reshape(z.shape) * np.exp(
            self.strength * (z - z.max(axis=1, keepdims=True))
        )
        weights /= len(z) * weights.sum(axis=1, keepdims=True)
        return pyfront.Report(torch.from_numpy(weights.ravel()))


def even(num_tasks):
    return [1.0 / num_tasks] * num_tasks


#: name → how it wraps the base optimizer for m tasks, and what a step at preference p is told
METHODS = {
    "linear": (
        lambda base, m: pyfront.LinearScalarization(base, even(m)),
        lambda p: {"preference": p.ravel()},
    ),
    "Pareto MTL, literal (8)": (
        lambda base, m: pyfront.ParetoMTL(base, preferences.das_dennis(m, 1), 0, warmup_steps=0),
        lambda p: {"reference_vectors": preferences.decompose(p.ravel(), 3)},
    ),
    "Pareto MTL": (
        lambda base, m: pyfront.ParetoMTL(
            base, preferences.das_dennis(m, 1), 0, schedule="alternating"
        ),
        lambda p: {"reference_vectors": preferences.decompose(p.ravel(), 20)},
    ),
    "EPO": (lambda base, m: pyfront.EPO(base, even(m)), lambda p: {"preference": p.ravel()}),
    "proportional": (
        lambda base, m: Proportional(base, even(m), 30.0),
        lambda p: {"preference": p.ravel()},
    ),
    "proportional, 8 a step": (
        lambda base, m: Proportional(base, even(m), 30.0),
        lambda p: {"preference": p.ravel()},
    ),
    "proportional, k = 10": (
        lambda base, m: Proportional(base, even(m), 10.0),
        lambda p: {"preference": p.ravel()},
    ),
}


def train(net, method, losses, steps, rate, draw):
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


def task_losses(logits, labels):
    return [cross_entropy(z, labels[:, task]) for task, z in enumerate(logits)]

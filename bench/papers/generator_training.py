"""What the experiments of controllable Pareto multi-task learning share: methods and the loop."""

import torch
from torch.nn.functional import cross_entropy

import pyfront
from pyfront import preferences


def proportional(strength):
    """w ∝ r exp(k z): what preference feedback makes of a preference for one call."""
    return (
        lambda base, m: pyfront.PreferenceFeedback(base, even(m), proportional=strength),
        lambda p: {"preference": p},
    )


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
    "proportional": proportional(30.0),
    "proportional, 8 a step": proportional(30.0),
    "proportional, k = 10": proportional(10.0),
}


def train(net, method, losses, steps, rate, draw):
    """The ordinary loop: draw a preference, take the losses of its network, step.

    Args:
        net: the hypernetwork.
        method: a key of `METHODS`.
        losses: a function of net and p that draws a batch and returns the m losses.
        steps: how many; the learning rate falls to 0 along a cosine.
        rate: Adam's learning rate at the start.
        draw: a function that returns a preference [m], or several [K, m].
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

"""Training functions that tests give to worker processes, which import them from here."""

import faulthandler
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

import pyfront
from pyfront.problems import QuadraticProblem


def train(preference):
    """A short training whose every bit depends on the generators and the number of threads."""
    net = torch.nn.Sequential(torch.nn.Linear(50, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    data = torch.randn(2000, 50)
    opt = pyfront.LinearScalarization(torch.optim.Adam(net.parameters()), preference)
    for _ in range(3):
        out = net(data)
        losses = opt.step([(out[:, j] - j).square().mean() for j in range(2)]).losses.tolist()
    return pyfront.Solution(
        method="linear",
        preference=preference,
        train_losses=losses,
        metrics={
            "python": random.random(),
            "numpy": np.random.rand(),
            "seed": torch.initial_seed(),
            "threads": torch.get_num_threads(),
        },
    )


def either(preference, method=pyfront.PreferenceFeedback, *, folder=None):
    """As `train`, by feedback or by the method that is given; may leave a line for every call."""
    if folder is not None:
        with (Path(folder) / "calls").open("a") as file:
            file.write(f"{preference} {method.__name__}\n")
    net, data = torch.nn.Linear(5, 2), torch.randn(200, 5)
    opt = method(torch.optim.SGD(net.parameters(), lr=0.1), preference)
    for _ in range(5):
        out = net(data)
        losses = opt.step([(out[:, j] - j).square().mean() for j in range(2)]).losses.tolist()
    metrics = {"seed": torch.initial_seed(), "weight": opt.report.weights[0].item()}
    return pyfront.Solution(
        method="feedback", preference=preference, train_losses=losses, metrics=metrics
    )


def named(run):
    """Runs of several methods: ("EPO", r) or ("MGDA", None)."""
    method, preference = run
    return pyfront.Solution(method=method, preference=preference, train_losses=[1.0, 2.0])


def faulty(preference):
    """Fails in a way that the first entry of the preference chooses."""
    match preference[0]:
        case 2.0:
            raise ValueError("two is not to be had")
        case 3.0:
            os.kill(os.getpid(), signal.SIGKILL)
        case 4.0:
            faulthandler._sigsegv()
        case 5.0:
            sys.exit("five left")
        case 6.0:
            return [1.0, 2.0]
        case 7.0:
            return pyfront.Solution(method="three tasks", train_losses=[1.0, 2.0, 3.0])
    return train(preference)


def counted(preference, *, folder, fail=0.0, lr=0.1):
    """Leaves a line for every call; fails where the first entry is `fail`."""
    with (Path(folder) / "calls").open("a") as file:
        file.write(f"{preference[0]}\n")
    if preference[0] == fail:
        raise ValueError("not yet")
    problem = QuadraticProblem(2)
    theta = torch.nn.Parameter(torch.rand(2, dtype=torch.float64))
    opt = pyfront.LinearScalarization(torch.optim.SGD([theta], lr=lr), preference)
    losses = opt.step(problem.losses(theta)).losses.tolist()
    return pyfront.Solution(method="linear", preference=preference, train_losses=losses)


def endless(preference, *, folder):
    """Starts a process of its own, tells both numbers, and does not end; 1 ends at once."""
    if preference[0] == 1.0:
        return counted(preference, folder=folder)
    child = subprocess.Popen(["sleep", "600"])
    part = Path(folder) / f".{preference[0]}"
    part.write_text(f"{os.getpid()} {child.pid}")
    part.rename(Path(folder) / f"pids-{preference[0]}")
    while True:
        time.sleep(0.01)


def stepping(preference, advance):
    """Reports 30 steps."""
    for _ in range(10):
        advance()
    advance(20)
    return train(preference)


def together(preference, *, folder):
    """All ranks of a group take the same steps; averaging equal gradients changes no bit."""
    group = dist.group.WORLD if GROUP is None else GROUP
    rank = dist.get_rank(group)
    with (Path(folder) / f"calls-{dist.get_rank()}").open("a") as file:
        file.write(f"{preference[0]}\n")
    if preference[0] == 3.0 and rank == 1:
        raise ValueError("three is not for rank 1")
    losses = plain(preference).train_losses
    if preference[0] != 3.0:
        mean = torch.tensor(losses, dtype=torch.float64)
        dist.all_reduce(mean, group=group)
        losses = (mean / dist.get_world_size(group)).tolist()
    return pyfront.Solution(method="sum", preference=preference, train_losses=losses)


def plain(preference):
    """A short training of the weighted sum by torch alone."""
    net = torch.nn.Sequential(torch.nn.Linear(50, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    data, opt = torch.randn(2000, 50), torch.optim.Adam(net.parameters())
    for _ in range(3):
        opt.zero_grad()
        losses = net(data).square().mean(dim=0)
        (losses @ torch.tensor(preference)).backward()
        opt.step()
    return pyfront.Solution(method="sum", preference=preference, train_losses=losses.tolist())


GROUP = None  # of the ranks that train together, set by a script

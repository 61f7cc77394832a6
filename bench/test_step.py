"""A whole training step: forward, m backwards, decision, direction, update.

The floor is what every exact method pays: forward, m backward passes and Adam, with no decision.
Each contender runs in turns with the floor, so that drift of the machine hits both alike;
`ratio_to_floor` in `extra_info` is the median over rounds of its time over the floor's next to it;
`scalarize` runs in turns with `step(losses)`, and with one after `zero_grad()` (`zeroed`), which a
scalar needs and frameworks call; `floor-by-node` is the floor whose gradient arrives as a scalar's
does, by the smallest autograd node.
TorchJD runs with and without its own Gramian shortcut. The published EPO loop is rewritten from its
paper: a fresh forward and backward for every task into one flat matrix, a cvxpy problem built at
every step, a forward and a weighted backward.
"""

import statistics
from functools import partial

import numpy as np
import pytest
import torch
from lengths import length
from networks import residual, transformer
from stopwatch import seconds
from torch import nn
from training_steps import adam, floor, torchjd

import pyfront

COMPETITORS = ("torchjd", "cvxpy")
ROUNDS = length(15, 41)
NETWORKS = {"resnet": residual, "transformer": transformer}  # m = 4


class LeNet(nn.Module):
    """The two-task network of the papers' image experiments."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 10, 9), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(180, 50), nn.ReLU(),
        )  # fmt: skip
        self.heads = nn.ModuleList([nn.Linear(50, 10) for _ in range(2)])

    def losses(self, batch):
        x, targets = batch
        z = self.trunk(x)
        return [
            nn.functional.cross_entropy(head(z), y)
            for head, y in zip(self.heads, targets, strict=True)
        ]


class Mlp(nn.Module):
    """A trunk 64-256-256 with a regression head a task."""

    def __init__(self, tasks):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(256, 1) for _ in range(tasks)])

    def losses(self, batch):
        x, targets = batch
        z = self.trunk(x)
        return [
            (head(z).squeeze(1) - y).square().mean()
            for head, y in zip(self.heads, targets, strict=True)
        ]


def make_problem(name):
    torch.manual_seed(0)
    if name == "lenet":
        batch = (torch.randn(256, 1, 28, 28), torch.randint(10, (2, 256)))
        return LeNet(), batch, 2
    if name in NETWORKS:
        network = NETWORKS[name](4)
        network.x, network.targets = network.x[:16], network.targets[:, :16]
        network.losses = lambda batch, losses=network.losses: losses()
        return network, None, 4
    tasks = int(name.removeprefix("mlp"))
    return Mlp(tasks), (torch.randn(128, 64), torch.randn(tasks, 128)), tasks


def backwards(**how):
    return lambda model, batch, tasks: floor(model, partial(model.losses, batch), **how)


def epo(base, tasks):
    return pyfront.EPO(base, [1.0] * tasks)


def ours(method, *, zero_grad=False):
    def make(model, batch, tasks):
        opt = method(adam(model), tasks)

        def step():
            if zero_grad:
                opt.zero_grad()
            opt.step(model.losses(batch))

        return step

    return make


def by_scalar(method):
    """As a framework makes the step: one scalar, backward on it, a step."""

    def make(model, batch, tasks):
        opt = method(adam(model), tasks)

        def step():
            opt.zero_grad()
            opt.scalarize(model.losses(batch)).backward()
            opt.step()

        return step

    return make


def theirs(aggregator, shortcut):
    return lambda model, batch, tasks: torchjd(
        model, partial(model.losses, batch), aggregator, shortcut=shortcut
    )


def published_epo_loop(model, batch, tasks):
    """EPO Search as its authors train: everything anew at every step."""
    cp = pytest.importorskip("cvxpy", reason="cvxpy is not installed")
    base, r = adam(model), np.full(tasks, 1.0 / tasks)
    params = list(model.parameters())

    def weights(losses, gramian):
        share = r * losses / (r @ losses)
        mu = share @ np.log(tasks * share)
        adjust = gramian @ (r * (np.log(tasks * share) - mu))
        rows = np.where(adjust > 0, -np.inf, 0.0)
        rows[np.argmax(r * losses)] = 0.0
        keep = np.isfinite(rows)
        beta = cp.Variable(tasks, nonneg=True)
        problem = cp.Problem(
            cp.Maximize(adjust @ beta), [cp.sum(beta) == 1, gramian[keep] @ beta >= 0]
        )
        problem.solve(solver="CLARABEL")
        return beta.value

    def step():
        flat, values = [], []
        for task in range(tasks):
            base.zero_grad()
            loss = model.losses(batch)[task]
            loss.backward()
            flat.append(
                torch.cat(
                    [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in params]
                )
            )
            values.append(loss.item())
        jacobian = torch.stack(flat)
        w = weights(np.array(values), (jacobian @ jacobian.T).double().numpy())
        base.zero_grad()
        sum(wj * loss for wj, loss in zip(w.tolist(), model.losses(batch), strict=True)).backward()
        base.step()

    return step


CONTENDERS = {
    "floor": backwards(),
    "floor-rows-kept": backwards(keep=True),
    "floor-by-node": backwards(by_node=True),
    "pyfront-EPO": ours(epo),
    "pyfront-EPO-zeroed": ours(epo, zero_grad=True),
    "pyfront-EPO-scalarize": by_scalar(epo),
    "pyfront-EPO-scalarize-zeroed": by_scalar(epo),
    "pyfront-MGDA": ours(lambda base, m: pyfront.MGDA(base)),
    "pyfront-UPGrad": ours(lambda base, m: pyfront.UPGrad(base)),
    "torchjd-UPGrad": theirs("UPGrad", False),
    "torchjd-UPGrad-gramian": theirs("UPGrad", True),
    "torchjd-MGDA-gramian": theirs("MGDA", True),
    "published-EPO-loop": published_epo_loop,
}


AGAINST = {  # in place of the floor
    "pyfront-EPO-scalarize": "pyfront-EPO",
    "pyfront-EPO-scalarize-zeroed": "pyfront-EPO-zeroed",
}


def paired(problem, contender):
    """Seconds of the floor and of a contender, [ROUNDS] each, in turns in one process.

    In pairs, not all contenders in one round: one that gives megabytes back to the system at every
    step would let the next one pay for fetching them again.
    """
    other = AGAINST.get(contender, "floor")
    steps = [CONTENDERS[name](*make_problem(problem)) for name in (other, contender)]
    times = [[], []]
    rounds = length(3, 7) if problem in NETWORKS else ROUNDS  # a step of these takes long
    for round_ in range(rounds + 3):
        for step, taken in zip(steps, times, strict=True):
            elapsed = seconds(step)
            if round_ >= 3:  # the first ones warm up
                taken.append(elapsed)
    return times


@pytest.mark.parametrize("threads", length([1], [1, 2]))
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("problem", ["lenet", "mlp8", "mlp20", *NETWORKS])
def test_step(benchmark, problem, contender, threads):
    if problem in NETWORKS and threads > 1:
        pytest.skip("the large networks are measured with one thread alone")
    benchmark.group = f"step {problem} threads={threads}"
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        base, times = paired(problem, contender)
        step = CONTENDERS[contender](*make_problem(problem))
        benchmark.pedantic(step, rounds=5, warmup_rounds=2)
    finally:
        torch.set_num_threads(before)
    ratios = sorted(mine / other for mine, other in zip(times, base, strict=True))
    low, ratio, high = (ratios[len(ratios) * q // 4] for q in (1, 2, 3))
    milliseconds = 1e3 * statistics.median(times)
    benchmark.extra_info.update(
        {"ratio_to_step" if contender in AGAINST else "ratio_to_floor": ratio},
        threads=threads,
        quartiles=(low, high),
        median_ms=milliseconds,
    )
    print(
        f"{problem:11} {contender:24} {threads} threads {milliseconds:8.2f} ms"
        f"   over {AGAINST.get(contender, 'floor')} {ratio:.3f} ({low:.3f} to {high:.3f})"
    )

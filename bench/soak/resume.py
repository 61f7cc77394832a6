"""Pairs of trainings, one of them cut at a random step and resumed from its checkpoint.

``python bench/soak/resume.py --pairs 300``: both must end with the same bits, in parameters,
optimizer state, weights and statuses; prints the pairs per method and phase. The steps have
mini-batches, and the checkpoint goes through ``torch.save`` and ``weights_only=True``.
"""

from __future__ import annotations

import argparse
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator

import torch

import pyfront
from pyfront.preferences import circle

STEPS = 24
R = [0.7, 0.3]
Model = torch.nn.Module
Make = Callable[[Iterator[torch.nn.Parameter]], pyfront.MultiTaskOptimizer]


def adam(parameters: Iterator[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


def pareto_mtl(index: int, **options: object) -> Make:
    # a start outside of the region, which 8 of the 24 steps look for
    return lambda p: pyfront.ParetoMTL(adam(p), circle(5), index, warmup_steps=8, **options)


METHODS: dict[str, Make] = {
    "EPO": lambda p: pyfront.EPO(adam(p), R),
    "EPO smoothed": lambda p: pyfront.EPO(adam(p), R, weight_smoothing=0.9, every=3),
    "EPO adaptive": lambda p: pyfront.EPO(adam(p), R, epsilon="adaptive", descent="relaxed"),
    "MGDA": lambda p: pyfront.MGDA(adam(p), normalization="loss+"),
    "MGDA smoothed": lambda p: pyfront.MGDA(adam(p), weight_smoothing=0.5, every=2),
    "FERERO": lambda p: pyfront.FERERO(adam(p), R),
    "SingleLoopMGDA": lambda p: pyfront.SingleLoopMGDA(adam(p)),
    "SingleLoopMGDA difference": lambda p: pyfront.SingleLoopMGDA(adam(p), products="difference"),
    "LinearScalarization": lambda p: pyfront.LinearScalarization(adam(p), R),
    "PreferenceFeedback": lambda p: pyfront.PreferenceFeedback(adam(p), R),
    "ConstraintFeedback": lambda p: pyfront.ConstraintFeedback(adam(p), bounds={1: 0.5}),
    "SmoothTchebycheff": lambda p: pyfront.SmoothTchebycheff(adam(p), R),
    "MirrorTchebycheff": lambda p: pyfront.MirrorTchebycheff(adam(p), R),
    "GradNorm": lambda p: pyfront.GradNorm(adam(p)),
    "DynamicWeightAverage": lambda p: pyfront.DynamicWeightAverage(adam(p), steps_per_epoch=3),
    "UncertaintyWeighting": lambda p: pyfront.UncertaintyWeighting(adam(p), 2),
    "AlignedMTL": lambda p: pyfront.AlignedMTL(adam(p)),
    "CAGrad": lambda p: pyfront.CAGrad(adam(p)),
    "ConFIG": lambda p: pyfront.ConFIG(adam(p)),
    "DBMTL": lambda p: pyfront.DBMTL(adam(p)),
    "FAMO": lambda p: pyfront.FAMO(adam(p)),
    "FairGrad": lambda p: pyfront.FairGrad(adam(p)),
    "IMTLG": lambda p: pyfront.IMTLG(adam(p)),
    "NashMTL": lambda p: pyfront.NashMTL(adam(p)),
    "PCGrad": lambda p: pyfront.PCGrad(adam(p)),
    "UPGrad": lambda p: pyfront.UPGrad(adam(p)),
    "ParetoMTL": pareto_mtl(0),
    "ParetoMTL rescaled": pareto_mtl(4, rescale=True, epsilon=0.1),
    "ParetoMTL alternating": pareto_mtl(1, schedule="alternating"),
}


class TwoTasks(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Linear(6, 8)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(8, 1) for _ in range(2))

    def losses(self, seed: int) -> list[torch.Tensor]:
        batch = torch.randn(16, 6, generator=torch.Generator().manual_seed(seed))
        z = torch.tanh(self.trunk(batch))
        return [(h(z)[:, 0] - batch[:, j]).square().mean() for j, h in enumerate(self.heads)]


def make(method: str, seed: int) -> tuple[TwoTasks, pyfront.MultiTaskOptimizer]:
    torch.manual_seed(seed)
    model = TwoTasks()
    return model, METHODS[method](model.parameters())


def advance(
    model: TwoTasks, opt: pyfront.MultiTaskOptimizer, first: int, last: int, seed: int
) -> list[str]:
    """Steps ``first`` to ``last`` − 1; returns what each reported."""
    trail = []
    for step in range(first, last):
        if isinstance(opt, pyfront.ParetoMTL) and step == 16:
            opt.phase = "convergence"
        phase = getattr(opt, "phase", None)
        report = opt.step(lambda step=step: model.losses(1000 * seed + step))
        trail.append(f"{phase} {report.status} {report.weights.tolist()}")
    return trail


def bits(model: TwoTasks, opt: pyfront.MultiTaskOptimizer) -> list[object]:
    """Everything that training goes on from, comparable with ==."""

    def plain(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return value.tolist()
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value

    return [plain(model.state_dict()), plain(opt.state_dict())]


def pair(method: str, cut: int, seed: int) -> str:
    """The phase at the cut; raises where the resumed training differs."""
    model, opt = make(method, seed)
    before = advance(model, opt, 0, cut, seed)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, file)
    file.seek(0)
    phase = str(getattr(opt, "phase", None) or "")
    trail = advance(model, opt, cut, STEPS, seed)

    saved = torch.load(file, weights_only=True)
    other, resumed = make(method, seed + 1)  # another start: all must come from the checkpoint
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["opt"])
    again = advance(other, resumed, cut, STEPS, seed)
    if again != trail or bits(other, resumed) != bits(model, opt):
        raise AssertionError(f"{method}, cut at step {cut}, seed {seed}: the resumed run differs")
    assert len(before) == cut
    return phase


def main(arguments: list[str] | None = None) -> dict[str, int]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    choice = random.Random(options.seed)
    counts: Counter[str] = Counter()
    for number in range(options.pairs):
        method = list(METHODS)[number % len(METHODS)]
        phase = pair(method, choice.randrange(STEPS), options.seed + 2 * number)
        counts[f"{method} {phase}".strip()] += 1
    print(json.dumps({"pairs": sum(counts.values()), **counts}, indent=1))
    return counts


if __name__ == "__main__":
    main()

"""Decisions of the methods that people migrate with, beside TorchJD's on the same gradients.

Both start from what they are given in a step: ours and TorchJD's weightings from the Gramian,
TorchJD's ConFIG and Nash-MTL, which have none, from the gradients J [m, 2m + 8] themselves.
`extra_info["distance"]` is how far the directions of the two are apart, relative to ours: TorchJD
adds 1e-4 to the Gramian's diagonal (UPGrad) and stops its solvers at their default tolerances.
"""

import importlib
from functools import partial

import numpy as np
import pytest
import torch

import pyfront

COMPETITORS = ("torchjd", "qpsolvers", "quadprog", "cvxpy", "clarabel", "ecos", "scipy")
METHODS = {  # ours and TorchJD's options
    "UPGrad": ({}, {}),
    "PCGrad": ({}, {}),
    "CAGrad": ({"c": 0.5}, {"c": 0.5}),
    "NashMTL": ({}, {"n_tasks": None}),
    "IMTLG": ({}, {}),
    "AlignedMTL": ({}, {}),
    "FairGrad": ({"alpha": 2.0}, {"alpha": 2.0}),
    "ConFIG": ({}, {}),
}


def pyfront_decision(name, jacobian):
    """From losses and C to w: what stands between the passes and the combination."""
    x = torch.nn.Parameter(torch.zeros(1))
    opt = getattr(pyfront, name)(torch.optim.SGD([x], lr=0.1), **METHODS[name][0])
    gramian, losses = jacobian @ jacobian.T, np.ones(len(jacobian))
    solve = partial(opt.decide, losses, gramian, None)
    return solve, lambda report: jacobian.T @ report.weights.numpy()


def torchjd_decision(name, jacobian):
    """Its weighting on C, or its aggregator on J; Nash-MTL anew from its first step."""
    aggregation = importlib.import_module("torchjd.aggregation")
    options = {key: value or len(jacobian) for key, value in METHODS[name][1].items()}
    rows = torch.from_numpy(jacobian)
    if name in ("ConFIG", "NashMTL"):
        rule = getattr(aggregation, name)(**options)

        def solve():
            if name == "NashMTL":
                rule.reset()
            return rule(rows)

        return solve, lambda direction: direction.numpy()
    weighting = getattr(aggregation, f"{name}Weighting")(**options)
    solve = partial(weighting, rows @ rows.T)
    return solve, lambda weights: jacobian.T @ weights.numpy()


CONTENDERS = {"pyfront": pyfront_decision, "torchjd": torchjd_decision}


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("m", [2, 8, 40])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
def test_decision(benchmark, name, m, contender):
    benchmark.group = f"decision {name} m={m}"
    pytest.importorskip("torchjd.aggregation", reason="torchjd is not installed")
    jacobian = np.random.default_rng(m).standard_normal((m, 2 * m + 8))
    torch.manual_seed(0)
    try:
        solve, direction_of = CONTENDERS[contender](name, jacobian)
    except ImportError as error:
        pytest.skip(f"torchjd: {error}")
    direction = direction_of(benchmark(solve))
    ours_solve, ours_of = pyfront_decision(name, jacobian)
    ours = ours_of(ours_solve())
    distance = np.linalg.norm(direction - ours) / np.linalg.norm(ours)
    benchmark.extra_info["distance"] = float(distance)

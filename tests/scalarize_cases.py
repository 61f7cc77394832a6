"""Every method, and gradients to compare, for loops that call backward on one scalar."""

import torch

import pyfront
from pyfront import EPO, LinearScalarization, UncertaintyWeighting

X = torch.linspace(-1, 1, 30).reshape(6, 5)
VECTORS = [[0.1, 1.0], [1.0, 1.0], [1.0, 0.1]]
METHODS = {
    "epo": lambda base, **o: EPO(base, [0.7, 0.3], **o),
    "linear": lambda base, **o: LinearScalarization(base, [0.7, 0.3], **o),
    "pareto_mtl": lambda base, **o: pyfront.ParetoMTL(base, VECTORS, 2, **o),
    "uncertainty": lambda base, **o: UncertaintyWeighting(base, 2, lr=0.01, **o),
    "feedback": lambda base, **o: pyfront.PreferenceFeedback(base, [0.7, 0.3], **o),
    "constraint": lambda base, **o: pyfront.ConstraintFeedback(
        base, objective=0, bounds={1: 0.2}, **o
    ),
    "ferero": lambda base, **o: pyfront.FERERO(base, [0.7, 0.3], **o),
    "smooth": lambda base, **o: pyfront.SmoothTchebycheff(base, [0.7, 0.3], **o),
    "mirror": lambda base, **o: pyfront.MirrorTchebycheff(base, [0.7, 0.3], **o),
}
METHODS |= {
    name: getattr(pyfront, name)
    for name in [
        "AlignedMTL",
        "CAGrad",
        "ConFIG",
        "DBMTL",
        "DynamicWeightAverage",
        "FAMO",
        "FairGrad",
        "GradNorm",
        "IMTLG",
        "MGDA",
        "NashMTL",
        "PCGrad",
        "SingleLoopMGDA",
        "UPGrad",
    ]
}


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=0.01)


def gradients(model):
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def same(a, b):
    return all(
        p is q if p is None or q is None else torch.equal(p, q) for p, q in zip(a, b, strict=True)
    )

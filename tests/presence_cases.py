"""Every method for all tasks or those at some places, and a network whose batches lack tasks."""

import numpy as np
import torch

import pyfront

R = [0.5, 0.3, 0.2]
VECTORS = [[0.2, 1.0, 0.4], [1.0, 0.1, 0.05], [0.6, 0.6, 1.0]]  # far from the second at first


def per_place(values, places):
    return None if values is None else [values[place] for place in places]


def with_preference(cls, **options):
    return lambda base, places, **more: cls(base, per_place(R, places), **options, **more)


def without(cls, **options):
    return lambda base, places, **more: cls(base, **options, **more)


def with_values(cls, name, values, **options):
    return lambda base, places, **more: cls(
        base, **{name: per_place(values, places)}, **options, **more
    )


def pareto(base, places, **more):
    vectors = np.array(VECTORS)[:, places]
    return pyfront.ParetoMTL(base, vectors, 1, warmup_steps=4, **more)


def alternating(base, places, **more):
    return pareto(base, places, schedule="alternating", **more)


def ferero_rows(base, places, **more):
    """A cone, a constraint without task 1, and one with it."""
    cone = np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.25, 0.25, 0.5]])[:, places]
    equal = (np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]), np.zeros(2))
    below = (np.array([[1.0, -2.0, 0.0], [-2.0, 0.0, 1.0]]), np.array([0.1, 0.2]))
    if len(places) == 2:
        equal, below = (equal[0][:1, places], equal[1][:1]), (below[0][1:, places], below[1][1:])
    return pyfront.FERERO(base, cone=cone, equalities=equal, inequalities=below, **more)


def uncertainty(base, places, **more):
    kinds = per_place(["regression", "classification", "regression"], places)
    return pyfront.UncertaintyWeighting(base, len(places), likelihood=kinds, **more)


def epo_in_units(base, places, **more):
    offset, unit = per_place([-0.1, -0.2, -0.3], places), per_place([1.0, 2.0, 3.0], places)
    return pyfront.EPO(base, per_place(R, places), offset=offset, unit=unit, **more)


def feedback_in_units(base, places, **more):
    offset, unit = per_place([-0.1, -0.2, -0.3], places), per_place([1.0, 2.0, 3.0], places)
    return pyfront.PreferenceFeedback(base, per_place(R, places), offset=offset, unit=unit, **more)


def constraint(base, places, **more):
    return pyfront.ConstraintFeedback(base, 0, {len(places) - 1: 0.2}, **more)


METHODS = {
    "linear": with_preference(pyfront.LinearScalarization),
    "mgda": without(pyfront.MGDA),
    "mgda-l2": without(pyfront.MGDA, normalization="l2"),
    "mgda-loss+": without(pyfront.MGDA, normalization="loss+"),
    "epo": with_preference(pyfront.EPO),
    "epo-units": epo_in_units,
    "epo-adaptive": with_preference(pyfront.EPO, epsilon="adaptive"),
    "smooth": with_preference(pyfront.SmoothTchebycheff),
    "mirror": with_preference(pyfront.MirrorTchebycheff),
    "single": without(pyfront.SingleLoopMGDA),
    "frank-wolfe": without(pyfront.SingleLoopMGDA, update="frank_wolfe"),
    "ferero": with_preference(pyfront.FERERO),
    "ferero-rows": ferero_rows,
    "pareto": pareto,
    "alternating": alternating,
    "grad-norm": without(pyfront.GradNorm),
    "average": without(pyfront.DynamicWeightAverage, steps_per_epoch=2),
    "uncertainty": uncertainty,
    "upgrad": with_values(pyfront.UPGrad, "task_weights", [0.2, 0.3, 0.5]),
    "upgrad-equal": without(pyfront.UPGrad),
    "pcgrad": without(pyfront.PCGrad),
    "cagrad": without(pyfront.CAGrad),
    "nash": without(pyfront.NashMTL),
    "imtl": without(pyfront.IMTLG),
    "aligned": with_values(pyfront.AlignedMTL, "task_weights", [0.2, 0.3, 0.5]),
    "fairgrad": without(pyfront.FairGrad),
    "config": with_values(pyfront.ConFIG, "task_weights", [0.2, 0.3, 0.5]),
    "db": without(pyfront.DBMTL),
    "feedback": with_preference(pyfront.PreferenceFeedback),
    "feedback-units": feedback_in_units,
    "constraint": constraint,
    "famo": with_values(pyfront.FAMO, "min_losses", [0.0, -0.1, -0.2]),
}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.trunk = torch.nn.Linear(4, 5, dtype=torch.float64)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(5, 1, dtype=torch.float64) for _ in R)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) / 2)

    def losses(self, step, places=(0, 1, 2), rows=slice(None)):
        generator = torch.Generator().manual_seed(100 + step)
        x = torch.randn(8, 4, generator=generator, dtype=torch.float64)[rows]
        y = torch.randn(8, 3, generator=generator, dtype=torch.float64)[rows]
        z = torch.tanh(self.trunk(x))
        return [
            ((self.heads[j](z)[:, 0] - y[:, j]) ** 2).mean() + 0.1 if j in places else None
            for j in range(3)
        ]


def adam(net):
    return torch.optim.Adam(net.parameters(), lr=0.02)


def there(losses):
    return [loss for loss in losses if loss is not None]


def assert_same(a, b):
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)

"""Methods of every kind on a plain base, for what holds whatever the method."""

import pytest
import torch

from pyfront import (
    EPO,
    MGDA,
    DynamicWeightAverage,
    GradNorm,
    LinearScalarization,
    UncertaintyWeighting,
)

X = torch.linspace(-1, 1, 30).reshape(6, 5)
METHODS = {
    "mgda": lambda base, **options: MGDA(base, **options),
    "epo": lambda base, **options: EPO(base, [0.7, 0.3], **options),
    "linear": lambda base, **options: LinearScalarization(base, [0.7, 0.3], **options),
    "uncertainty": lambda base, **options: UncertaintyWeighting(base, 2, **options),
    "grad_norm": GradNorm,
    "weight_average": DynamicWeightAverage,
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def sgd(model, lr=0.1, **options):
    return torch.optim.SGD(model.parameters(), lr=lr, **options)

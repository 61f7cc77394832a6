"""Another default device: numbers of size m stay on the processor, parameters where they are."""

import pytest
import torch

import pyfront
from pyfront import functional, preferences

X = torch.linspace(-1, 1, 30).reshape(6, 5)
R = [0.7, 0.3]
VECTORS = [[0.0, 1.0], [0.6, 0.8], [1.0, 0.0]]
METHODS = {
    "MGDA": pyfront.MGDA,
    "MGDA, smoothed": lambda base: pyfront.MGDA(base, weight_smoothing=0.5),
    "MGDA, every other step": lambda base: pyfront.MGDA(base, every=2),
    "EPO": lambda base: pyfront.EPO(base, R),
    "ParetoMTL": lambda base: pyfront.ParetoMTL(base, VECTORS, 1, warmup_steps=2),
    "ParetoMTL, alternating": lambda base: pyfront.ParetoMTL(
        base, VECTORS, 1, schedule="alternating"
    ),
    "LinearScalarization": lambda base: pyfront.LinearScalarization(base, R),
    "UncertaintyWeighting": lambda base: pyfront.UncertaintyWeighting(base, 2),
    "GradNorm": pyfront.GradNorm,
    "DynamicWeightAverage": pyfront.DynamicWeightAverage,
    "PreferenceFeedback": lambda base: pyfront.PreferenceFeedback(base, R),
    "SmoothTchebycheff": lambda base: pyfront.SmoothTchebycheff(base, R),
    "MirrorTchebycheff": lambda base: pyfront.MirrorTchebycheff(base, R),
    "SingleLoopMGDA": pyfront.SingleLoopMGDA,
    "FERERO": lambda base: pyfront.FERERO(base, R),
}


@pytest.fixture
def elsewhere():
    """A default device on which no number can be looked at."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("method", METHODS)
def test_steps_and_checkpoints(two_heads, elsewhere, method):
    opt = METHODS[method](torch.optim.SGD(two_heads.parameters(), lr=0.1))
    for _ in range(3):
        report = opt.step(two_heads.losses(X))
    opt.load_state_dict(opt.state_dict())
    opt.step(two_heads.losses(X))
    assert report.weights.device.type == "cpu"
    assert repr(opt).startswith(type(opt).__name__)


def test_preferences_and_functions_of_small_inputs(elsewhere):
    made = [
        preferences.circle(3),
        preferences.das_dennis(3, 4),
        preferences.sample(3, 5),
        preferences.sample_biased(3, 5, 1, 2.0),
        preferences.sample_sphere(3, 5),
        preferences.to_reference_vectors(R),
        preferences.from_reference_vectors([0.6, 0.8]),
        functional.min_norm_weights([[1.0, 0.0], [0.0, 3.0]])[0],
        functional.epo_weights([1.0, 2.0], [[1.0, 0.0], [0.0, 3.0]], R).weights,
        functional.pareto_mtl_weights([1.0, 2.0], [[1.0, 0.0], [0.0, 3.0]], VECTORS, 1).weights,
    ]
    assert {tensor.device.type for tensor in made} == {"cpu"}

"""The long checks of bench/soak, in short."""

import pytest
from soak import exact, resume, steps

import pyfront


def test_every_method_is_resumed_bit_for_bit():
    methods = {type(resume.make(name, 0)[1]) for name in resume.METHODS}
    assert methods == {getattr(pyfront, name) for name in pyfront.methods.__all__}
    counts = resume.main(["--pairs", str(len(resume.METHODS))])
    assert sum(counts.values()) == len(resume.METHODS)


@pytest.mark.parametrize(
    "cut, phase", [(0, "feasibility"), (5, "feasibility"), (12, "descent"), (20, "convergence")]
)
def test_every_phase_of_pareto_mtl_is_resumed_bit_for_bit(cut, phase):
    assert resume.pair("ParetoMTL", cut, seed=0) == phase


def test_answers_are_optimal_in_exact_arithmetic():
    counts = exact.main(["--inputs", "340"])
    assert sum(counts.values()) == 340
    assert not any(status.startswith("iteration_limit") for status in counts)


def test_steps_open_no_handles_and_start_no_threads(tmp_path):
    figures = steps.main(["--steps", "3000", "--out", str(tmp_path / "figures.json")])
    for kind in ("handles", "threads"):
        least, most = figures[f"{kind}, least and most"]
        assert least == most

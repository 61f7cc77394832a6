"""`Highs`: what it answers, and what it says of a highspy that is missing, too old or broken."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import threading
import types

import highspy
import numpy as np
import pytest
import torch
from absent import hide
from epo_cases import EPSILON, half_rank

import pyfront
from pyfront.backend import _core, solvers
from pyfront.backend.highs import Highs

VERSION = importlib.metadata.version("highspy")
PROGRAM = (
    np.array([1.0, 2.0]),
    np.array([[1.0, 1.0], [1.0, -1.0]]),
    np.array([1.0, 0.0]),
    np.array([1, 3], dtype=np.int32),
)
# Our own method certifies neither of its programs: the norms span 12 decades.
LOSSES, GRADIENTS = half_rank(6, 12, 5)
GRAMIAN = GRADIENTS @ GRADIENTS.T
PREFERENCE = np.ones(6)


@pytest.fixture(autouse=True)
def _no_kept_solvers(monkeypatch):
    monkeypatch.setattr(solvers, "_idle", [])


def replace(monkeypatch, **attributes):
    """A highspy like the one installed, but for some attributes; None takes one away."""
    fake = types.ModuleType("highspy")
    fake.__file__ = "/elsewhere/highspy/__init__.py"
    for name, value in (vars(highspy) | attributes).items():
        if value is not None and not name.startswith("__"):
            setattr(fake, name, value)
    monkeypatch.setitem(sys.modules, "highspy", fake)


def changed(**methods):
    return type("Changed", (highspy.Highs,), methods)


def test_an_answer():
    status, beta, duals = Highs()(*PROGRAM)
    assert (status, beta.tolist(), duals.tolist()) == ("optimal", [0.5, 0.5], [1.5, -0.5])


def test_without_a_feasible_point_it_is_infeasible():
    cost, rows, _, basis = PROGRAM
    assert Highs()(cost, rows, np.array([1.0, 1.5]), basis) == ("infeasible", None, None)


def test_the_start_does_not_matter():
    """Feasible, infeasible, or none at all: the columns of its basis are dependent."""
    for basis in ([0, 3], [1, 3], [0, 1], [1, 2], [2, 3]):
        status, beta, _ = Highs()(*PROGRAM[:3], np.array(basis, dtype=np.int32))
        assert (status, beta.tolist()) == ("optimal", [0.5, 0.5])


def test_it_stops_at_its_limit_of_iterations(monkeypatch):
    monkeypatch.setattr("pyfront.backend.highs._ITERATIONS", 0)
    assert Highs()(*PROGRAM) == ("failed", None, None)


def test_programs_over_15_decades_end():
    """Without limits one of them ran on: what is asserted is that each returns, and its answer."""
    for seed in range(4):
        losses, gradients = half_rank(100, 15, seed)
        solver = _core.EpoSolver(Highs())
        for restricted in (True, False):
            weights, _, status, _, objective = solver.solve(
                losses, gradients @ gradients.T, np.ones(100), EPSILON, restricted
            )
            assert status in {"ok", "fallback_relaxed", "fallback_min_norm"}
            assert (weights >= 0.0).all() and abs(weights.sum() - 1.0) < 1e-12
            assert np.isfinite(objective)


def test_nothing_is_printed_and_ordinary_programs_do_not_import_it():
    script = """
import sys, numpy
from pyfront.functional import epo_weights
assert epo_weights([3.0, 1.0], numpy.eye(2), [0.5, 0.5]).status == "ok"
assert "highspy" not in sys.modules
from pyfront.backend.highs import Highs
rows, basis = numpy.array([[1.0, 1.0], [1.0, -1.0]]), numpy.array([1, 3], dtype=numpy.int32)
Highs()(numpy.ones(2), rows, numpy.array([1.0, 0.0]), basis)
assert "highspy" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd="/", capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def epo(preference=PREFERENCE):
    return pyfront.functional.epo_weights(LOSSES, GRAMIAN, preference)


def test_a_program_that_needs_it_is_solved_by_it(monkeypatch):
    asked = []
    plain = Highs.__call__
    monkeypatch.setattr(Highs, "__call__", lambda self, *a: asked.append(a) or plain(self, *a))
    assert epo().status == "ok"
    assert len(asked) == 1


def test_many_threads_at_once_give_the_same_answer():
    expected = epo().weights
    found = []
    threads = [
        threading.Thread(target=lambda: found.extend(epo().weights for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 80
    assert all(torch.equal(weights, expected) for weights in found)
    assert 1 <= len(solvers._idle) <= 5


def test_a_signal_handler_may_solve_while_it_is_asked(monkeypatch):
    expected = epo().weights
    plain = Highs.__call__
    inner = []

    def interrupted(self, *arguments):
        if not inner:
            inner.append(None)
            inner[0] = epo().weights
        return plain(self, *arguments)

    monkeypatch.setattr(Highs, "__call__", interrupted)
    assert torch.equal(epo().weights, expected)
    assert torch.equal(inner[0], expected)


# --- a highspy that cannot be used ---


def test_not_installed(monkeypatch):
    hide(monkeypatch, "highspy")
    with pytest.raises(ImportError, match=r"highspy is not installed: pip install \"highspy>=1"):
        Highs()(*PROGRAM)


@pytest.mark.parametrize(
    "source",
    [
        "raise RuntimeError('no such symbol')",
        "raise OSError('no such symbol')",
        "import none_of_that_name",
        "x = (",
    ],
)
def test_an_import_that_fails(monkeypatch, tmp_path, source):
    (tmp_path / "highspy.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "highspy")
    with pytest.raises(ImportError, match=f"highspy {VERSION} cannot be imported") as caught:
        Highs()(*PROGRAM)
    assert "pip install --upgrade" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_an_empty_package_of_no_version(monkeypatch, tmp_path):
    """As where a folder of that name lies in the working directory."""
    (tmp_path / "highspy").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "highspy")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ImportError, match=r"highspy of unknown version lacks .*'Highs'"):
        Highs()(*PROGRAM)


LACKING = [
    *("Highs", "HighsStatus", "HighsModelStatus", "HighsBasis", "HighsBasisStatus"),
    *("setOptionValue", "passModel", "setBasis", "run", "getModelStatus", "getSolution"),
]


@pytest.mark.parametrize("name", LACKING)
def test_one_that_lacks_what_is_used(monkeypatch, name):
    if name[0].isupper():
        replace(monkeypatch, **{name: None})
    else:

        def absent(self):
            raise AttributeError(name)

        replace(monkeypatch, Highs=changed(**{name: property(absent)}))
    match = rf"highspy {VERSION} \(/elsewhere/.*\) lacks .*{name}.*pip install --upgrade"
    with pytest.raises(ImportError, match=match):
        Highs()(*PROGRAM)


class Solution:
    def __init__(self, col_value, row_dual):
        self.col_value, self.row_dual = col_value, row_dual


NAN = float("nan")
BROKEN = {
    "NaN": {"getSolution": lambda self: Solution([NAN, 0.5], [1.5, -0.5])},
    "infinite dual": {"getSolution": lambda self: Solution([0.5, 0.5], [np.inf, 0.0])},
    "short": {"getSolution": lambda self: Solution([1.0], [1.5, -0.5])},
    "long": {"getSolution": lambda self: Solution([0.5, 0.5], [1.5, -0.5, 0.0])},
    "text": {"getSolution": lambda self: Solution(["a", "b"], [1.5, -0.5])},
    "no status": {"getModelStatus": lambda self: None},
    "number": {"getModelStatus": lambda self: 7},
    "other status": {"getModelStatus": lambda self: highspy.HighsStatus.kOk},
    "no model": {"passModel": lambda self, *_: highspy.HighsStatus.kError},
    "no basis": {"setBasis": lambda self, _: highspy.HighsStatus.kError},
    "no option": {"setOptionValue": lambda self, *_: highspy.HighsStatus.kError},
    "own error": {"run": lambda self: 1 / 0},
}


@pytest.mark.parametrize("fault", BROKEN)
def test_one_that_misbehaves(monkeypatch, fault):
    replace(monkeypatch, Highs=changed(**BROKEN[fault]))
    with pytest.raises(RuntimeError, match=rf"highspy {VERSION} \(/elsewhere/"):
        Highs()(*PROGRAM)


LYING = {
    "wrong point": {"getSolution": lambda self: Solution([1.0] + [0.0] * 5, [0.0] * 8)},
    "infeasible": {"getModelStatus": lambda self: highspy.HighsModelStatus.kInfeasible},
    "gave up": {"getModelStatus": lambda self: highspy.HighsModelStatus.kUnknown},
    "did not run": {"run": lambda self: highspy.HighsStatus.kError},
}


@pytest.mark.parametrize("lie", LYING)
def test_one_that_is_wrong_is_a_fallback(monkeypatch, lie):
    """Which could be true, so that nothing can be said but that no answer was certified."""
    rows = []
    plain = highspy.Highs.passModel

    def pass_model(self, columns, count, *others):
        rows.append(count)
        return plain(self, columns, count, *others)

    methods = dict(LYING[lie], passModel=pass_model)
    if lie == "wrong point":
        methods["getSolution"] = lambda self: Solution([1.0] + [0.0] * 5, [0.0] * rows[-1])
    replace(monkeypatch, Highs=changed(**methods))
    report = epo()
    assert rows
    assert report.status in {"fallback_relaxed", "fallback_min_norm"}
    assert abs(float(report.weights.sum()) - 1.0) < 1e-12


# --- and the training step that met it ---


def training():
    x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    base = torch.optim.Adam([x], lr=0.1)
    opt = pyfront.EPO(base, preference=PREFERENCE, weight_smoothing=0.5)
    return x, opt


def losses(x):
    slopes = torch.from_numpy(GRADIENTS)
    return list(torch.from_numpy(LOSSES) + slopes @ x)


def flat(state):
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [flat(value) for value in state]
    return state.tolist() if isinstance(state, torch.Tensor) else state


@pytest.mark.parametrize("fault", ["missing", "NaN", "no status", "own error"])
def test_a_step_that_cannot_be_decided_changes_nothing(monkeypatch, fault):
    x, opt = training()
    opt.step([(x**2).sum() + j + 1.0 for j in range(6)])  # an ordinary step: there is a state
    if fault == "missing":
        hide(monkeypatch, "highspy")
    else:
        replace(monkeypatch, Highs=changed(**BROKEN[fault]))
    with torch.no_grad():
        x.zero_()
    before = flat(opt.state_dict()), x.tolist(), x.grad.tolist(), opt.report
    with pytest.raises((ImportError, RuntimeError), match="highspy"):
        opt.step(losses(x))
    assert (flat(opt.state_dict()), x.tolist(), x.grad.tolist(), opt.report) == before
    monkeypatch.undo()
    report = opt.step(losses(x))
    assert report.status == "ok"
    assert x.tolist() != before[1]

"""The scripts of the papers' experiments: short forms, runs that are kept, measures."""

import json

import _comparison
import _generator
import _synthetic
import controllable
import epo
import numpy as np
import pareto_mtl
import pytest
import sets
import torch
from _comparison import Case, compare, gathered, in_regions, ray_of, spread, table
from _runner import Bench, main
from _training import HIDDEN, METHODS, Run, network, train
from sets import EMBEDDED, load

import pyfront
from pyfront.datasets import multi_digits
from pyfront.problems import ConcaveProblem


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """One rate, few iterations and pictures, one thread."""
    threads = torch.get_num_threads()
    few = lambda: sets.pictures(multi_digits(train=200, test=100))  # noqa: E731
    monkeypatch.setitem(sets.SETS, "multi-digits", few)
    load.cache_clear()
    monkeypatch.setattr(_comparison, "RATES", (0.01,))
    monkeypatch.setattr(controllable, "RATES", (0.01,))
    monkeypatch.setattr(_synthetic, "RATES", (0.1,))
    monkeypatch.setattr(epo, "OTHERS_STEPS", 4)
    monkeypatch.setattr(epo, "EPO_STEPS", 2)
    monkeypatch.setattr(pareto_mtl, "ITERATIONS", 2)
    monkeypatch.setattr(pareto_mtl, "WEIGHTS", 3)
    monkeypatch.setattr(pareto_mtl, "VECTORS", 3)
    yield
    load.cache_clear()
    torch.set_num_threads(threads)


SHORT = [
    *((epo, name, ()) for name in ("figure1", "figure6", "trace", "growth")),
    (epo, "figure7", ("figure7-multi-digits",)),
    (epo, "figure8", ("figure8-teacher-8",)),
    (epo, "emotions", ("emotions-digits",)),
    *((pareto_mtl, name, ()) for name in ("figure2", "figure6", "figure11", "tasks")),
    (pareto_mtl, "figure4", ("figure4-multi-digits",)),
    (pareto_mtl, "figure7", ("figure7-multi-digits",)),
    (pareto_mtl, "figure8", ("figure8-digits-3",)),
    (pareto_mtl, "figure10", ("figure10-multi-digits",)),
    (controllable, "figure7", ()),
    (controllable, "figure8a", ("figure8a-multi-digits",)),
    (controllable, "figure9", ("figure9-digits",)),
    (controllable, "table1", ()),
]


@pytest.mark.parametrize("script, figure, names", SHORT, ids=lambda value: str(value)[:24])
def test_the_short_form_writes_a_table(script, figure, names, tmp_path):
    name = script.__name__
    options = ["--only", figure, "--seeds", "1", "--steps", "2", "--out", str(tmp_path)]
    main(name, script.__doc__, script.FIGURES, options)
    for written in names or (figure,):
        text = (tmp_path / f"{name}-{written}.md").read_text("utf-8")
        assert "|---|" in text and f"{name}.py" in text
        assert "nan" not in text
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == (0 if figure in ("trace", "growth", "tasks", "table1") else 1)


def test_every_figure_of_the_papers_has_a_description():
    for script in (epo, pareto_mtl, controllable):
        for name, figure in script.FIGURES.items():
            assert name in script.__doc__ and figure.__doc__


RUN = Run("digits-3", "feedback", {"preference": [0.2, 0.3, 0.5]}, 0.01, 1, 3)


def test_a_run_is_the_same_every_time_and_json_holds_it():
    first, second = train(RUN), train(RUN)
    for result in (first, second):
        assert result.pop("seconds") >= 0.0
    assert json.loads(json.dumps(first)) == second
    assert len(first["train"]) == len(first["test"]) == len(first["accuracy"]) == 3
    assert sum(first["suggested"]) == pytest.approx(1.0)


def test_a_finished_run_is_not_repeated_and_one_that_was_cut_off_is(tmp_path, capsys):
    bench, calls = Bench("papers", out=tmp_path), []

    def make(value):
        calls.append(value)
        return {"value": value}

    for value in (1, 2):
        bench.kept({"run": value}, lambda v=value: make(v))
    path = tmp_path / "runs.jsonl"
    path.write_bytes(path.read_bytes()[:-9])  # as a kill leaves it
    again = Bench("papers", out=tmp_path)
    assert "line 2 is no run" in capsys.readouterr().err
    values = [again.kept({"run": v}, lambda v=v: make(v))["value"] for v in (1, 2)]
    assert values == [1, 2]
    assert calls == [1, 2, 2]
    assert Bench("papers", out=tmp_path).finished.keys() == again.finished.keys()


def test_another_budget_is_another_run(tmp_path):
    bench = Bench("papers", out=tmp_path)
    results = [bench.run(RUN._replace(steps=steps)) for steps in (1, 2, 1)]
    assert results[0] is results[2] and results[0]["train"] != results[1]["train"]
    assert len((tmp_path / "runs.jsonl").read_text("utf-8").splitlines()) == 2


@pytest.mark.parametrize(
    "options, said",
    [
        (["--steps", "0"], "expected a whole number ≥ 1"),
        (["--seeds", "x"], "--seeds"),
        (["--only", "figure99"], "invalid choice: 'figure99'"),
        (["--sets", "mars"], "invalid choice: 'mars'"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(options, said, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main("epo", epo.__doc__, epo.FIGURES, [*options, "--out", str(tmp_path)])
    assert said in capsys.readouterr().err


def test_a_folder_without_the_files_is_an_error_that_names_one(tmp_path):
    options = ["--only", "figure8", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(FileNotFoundError, match=r"rf1\.arff\.gz"):
        main("epo", epo.__doc__, epo.FIGURES, options)


# ---------------------------------------------------------------------------------------- measures


def test_the_best_fixed_weights_are_those_that_feedback_suggests(tmp_path):
    bench = Bench("papers", out=tmp_path, seeds=1)
    case = Case({"preference": [0.2, 0.3, 0.5]}, (0.2, 0.3, 0.5))
    entries = {"linear": ("linear", [case]), "feedback": ("feedback", [case])}
    found = compare(bench, "digits-3", entries, 3)
    suggested = found["feedback"].results[0][0]["suggested"]
    assert found["best fixed weights"].results[0][0]["settings"]["options"] == {
        "preference": suggested
    }


def test_the_rate_of_least_worst_relative_loss_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(_comparison, "RATES", (1e-6, 0.03))
    bench = Bench("papers", out=tmp_path, seeds=1)
    case = Case({"preference": [0.2, 0.3, 0.5]}, (0.2, 0.3, 0.5))
    found = compare(bench, "digits-3", {"linear": ("linear", [case])}, 20)
    assert found["linear"].rate == 0.03


def test_one_of_several_methods_is_chosen_with_its_rate(tmp_path):
    bench = Bench("papers", out=tmp_path, seeds=1)
    vectors = [[1.0, 0.0, 0.0], [0.6, 0.0, 0.8]]
    found = compare(bench, "digits-3", {"Pareto MTL": in_regions(vectors)}, 10)["Pareto MTL"]
    tuned = [r for r in bench.finished.values() if r["seed"] == _comparison.TUNING_SEED]
    scores = {}
    for run in tuned:
        ray = ray_of(vectors[run["options"]["index"]])
        scores.setdefault(run["method"], []).append(np.multiply(ray, run["train"]).max())
    best = min(scores, key=lambda method: np.mean(scores[method]))
    assert len(scores) == 2 and found.results[0][0]["method"] == best
    assert _comparison.first_cells("Pareto MTL", found) == [best, "m", 0.01]


def results(losses):
    return [{"train": row, "test": row, "accuracy": row} for row in losses]


def test_measures_of_known_losses():
    cases = [Case({}, (0.5, 0.5)), Case({}, (0.25, 0.75))]
    found = gathered([results([[1.0, 1.0], [1.5, 0.5]])], cases, 0.01)
    assert found.non_uniformity()[0] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert found.worst().tolist() == [[0.5, 0.375]]
    assert found.hypervolumes((2.0, 2.0))[0] == pytest.approx(1.0 + 0.25)
    assert found.hypervolumes((1.25, 2.0))[0] == pytest.approx(0.25)  # the second is beyond


def test_rays_that_some_method_meets_count_as_reachable():
    cases = [Case({}, (0.5, 0.5)), Case({}, (0.5, 0.5))]
    even, uneven = ([1.0, 1.0], [1.0, 3.0])
    labels = ("linear", "Pareto MTL", "EPO", "EPO, smoothed", "feedback")
    found = {name: gathered([results([uneven, uneven])], cases, 0.01) for name in labels}
    assert "No method meets a ray" in epo.verdict(found)
    found["EPO"] = gathered([results([even, uneven])], cases, 0.01)
    assert epo.reached(found).tolist() == [True, False]
    assert "0.00 of linear's for EPO" in epo.verdict(found)


def test_domination_is_in_every_task():
    points = np.array([[1.0, 1.0], [0.2, 3.0]])
    assert pareto_mtl.dominated(points, np.array([[0.9, 0.9], [0.3, 2.0]])) == 0.5


def test_the_ray_of_a_vector_is_inverse_and_ends_are_finite():
    assert ray_of([0.6, 0.8]) == pytest.approx((4 / 7, 3 / 7))
    assert min(ray_of([1.0, 0.0])) > 0.0


def test_each_vector_makes_a_case():
    methods, cases = in_regions([[1.0, 0.0], [0.0, 1.0]])
    assert methods == ("Pareto MTL", "Pareto MTL, no phase 1")
    assert [case.options["index"] for case in cases] == [0, 1]


def test_tables_and_spreads():
    assert table(("a", "b"), [[1, 0.25]]) == ["| a | b |", "|---|---|", "| 1 | 0.25 |"]
    assert spread([1.0, 3.0]) == "2 ± 1"
    assert spread([1.0]) == "1"


# --------------------------------------------------------------------------- problems and networks


def test_starts_are_inside_and_outside_the_box():
    problem = ConcaveProblem(n=20)
    edge = 1.0 / problem.n**0.5
    assert _synthetic.start(problem, 1, "inside").abs().max() <= edge
    outside = _synthetic.start(problem, 1, "outside").abs()
    assert edge <= outside.min() and outside.max() <= 2.0 * edge


def test_what_is_critical_is_zero_on_the_front_and_not_off_it():
    problem = ConcaveProblem(n=20)
    for shift, on_front in ((0.0, True), (0.3, False)):
        theta = torch.zeros(20, dtype=torch.float64)
        theta[0] += shift
        end = _synthetic.End(problem.losses(theta).numpy()[None], theta, "ok")
        critical, uneven = _synthetic.after(problem, end, [0.5, 0.5])
        assert (critical < 1e-12) == on_front
        assert on_front == (uneven < 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method):
    options = {
        "preference": [0.2, 0.3, 0.5],
        "vectors": np.eye(3).tolist(),
        "index": 0,
        **({"task": 1} if method == "single task" else {}),
    }
    result = train(Run("digits-3", method, options, 0.01, 1, 2))
    assert np.isfinite(result["test"]).all()


@pytest.mark.parametrize("name", [name for name in HIDDEN if name in EMBEDDED])
def test_networks_have_one_output_per_task(name):
    rows = load(name)
    assert network(rows)(rows.x[:2]).shape == (2, rows.tasks)


def test_generator_methods_take_a_preference_per_step():
    for method in _generator.METHODS:
        net = pyfront.HyperNetwork(torch.nn.Linear(2, 2), 2, plain=True)
        before = [p.clone() for p in net.parameters()]
        _generator.train_generator(
            *(net, method, lambda net, p: net(torch.ones(1, 2), preference=p)[0].square(), 1, 0.1),
            lambda: torch.tensor([0.3, 0.7]),
        )
        assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))

"""What `make bench-compare` calls a loss, and the slopes of the growth tables."""

import json

import growth
import pytest
import results


def run_of(path, ratio, spread, ours="pyfront-EPO", seconds=1.0):
    stats = {"median": seconds, "q1": 0.99 * seconds, "q3": 1.01 * seconds}
    other = {"median": 2.0, "q1": 1.9, "q3": 2.1}
    extra = {"versions": {"pyfront": "1.0"}, "commit": "abc"}
    turns = {"ratio_to_floor": ratio, "quartiles": [ratio - spread, ratio + spread]}
    benchmarks = [
        {"group": "step", "name": f"test[{ours}]", "stats": stats, "extra_info": extra | turns},
        {"group": "solver", "name": "test[ours]", "stats": stats, "extra_info": extra},
        {"group": "solver", "name": "test[quadprog]", "stats": other, "extra_info": extra},
    ]
    machine = {"machine": "x86_64", "cpu": {"brand_raw": "C", "count": 2}, "python_version": "3.11"}
    run = {"benchmarks": benchmarks, "machine_info": machine, "datetime": "2030-01-31T12:00:00"}
    path.write_text(json.dumps(run))
    return path


def test_a_loss_beyond_noise_fails_and_names_the_benchmark(tmp_path, capsys):
    before = run_of(tmp_path / "a.json", 1.05, 0.02)
    after = run_of(tmp_path / "b.json", 1.20, 0.02)
    assert results.main("compare", before, after) == 1
    assert "LOSS step: test[pyfront-EPO]: ratio 1.05 before, 1.2 now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ratio", "spread"),
    [(1.05, 0.02), (1.20, 0.20), (1.08, 0.001), (0.9, 0.02)],
    ids=["the same", "noise", "within the margin", "a gain"],
)
def test_what_is_no_loss_passes(tmp_path, ratio, spread):
    before = run_of(tmp_path / "a.json", 1.05, 0.02)
    assert results.main("compare", before, run_of(tmp_path / "b.json", ratio, spread)) == 0


def test_a_solver_is_compared_over_the_fastest_other_one_of_its_run(tmp_path, capsys):
    before = run_of(tmp_path / "a.json", 1.05, 0.02)
    after = run_of(tmp_path / "b.json", 1.05, 0.02, seconds=1.5)
    assert results.main("compare", before, after) == 1
    assert "LOSS solver: test[ours]: ratio 0.5 before, 0.75 now" in capsys.readouterr().out


def test_runs_with_nothing_in_common_fail(tmp_path):
    before, after = tmp_path / "a.json", run_of(tmp_path / "b.json", 1.0, 0.1)
    empty = json.loads(after.read_text()) | {"benchmarks": []}
    before.write_text(json.dumps(empty))
    assert results.main("compare", before, after) == 1


def test_the_table_names_machine_versions_and_ratios(tmp_path, capsys):
    assert results.main("table", run_of(tmp_path / "a.json", 1.05, 0.02)) == 0
    out = capsys.readouterr().out
    for part in ("2030-01-31", "commit abc", "C, 2 cores", "pyfront 1.0", "threads: 1"):
        assert part in out
    assert "| step | **test[pyfront-EPO]** | 1000 | 1.05 | 1.03 to 1.07 |" in out


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_a_slope_is_that_of_the_larger_half(power):
    xs = [1, 10, 100, 1000]
    ys = [7.0, *(x**power for x in xs[1:])]
    assert growth.slope(xs, ys) == pytest.approx(power, abs=1e-9)


def test_growth_is_measured_and_limited():
    point = growth.FIXED | {"n": 1000, "m": 2, "tensors": 3}
    seconds, size = growth.measured(point, rounds=1)
    assert seconds > 0.0 and size >= 4 * 1000  # the direction at least
    assert growth.fits(point, 12_000) and not growth.fits(point, 11_999)

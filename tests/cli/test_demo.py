"""The command line: a short run end to end, its repeatability, and what it says to bad input."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

import pyfront
from pyfront.cli.demo_tables import seen
from pyfront.cli.demo_training import METHODS, PREFERENCES, LeNet, rays_between
from pyfront.cli.main import main
from pyfront.front.front import Front
from pyfront.front.solution import Solution
from pyfront.preferences import to_reference_vectors

for package in ("matplotlib", "moocore", "sklearn", "tqdm"):
    pytest.importorskip(package)

# One thread: the runs are small, and test machines are busy.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SHORT = ("--epochs", "1", "--preferences", "1", "--workers", "0")


def command(*arguments):
    return [sys.executable, "-m", "pyfront", "demo", *map(str, arguments)]


def demo(*arguments, cwd):
    return subprocess.run(
        command(*arguments), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


def test_a_short_run_writes_the_table_the_picture_and_the_front(tmp_path):
    done = demo(*SHORT, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["front.json", "front.png"]
    assert f"are in {tmp_path / 'out'}" in done.stdout
    front = Front.load(tmp_path / "out" / "front.json")
    assert [s.method for s in front] == ["feedback", "EPO", "linear"]
    assert all(s.preference == pytest.approx((0.5, 0.5)) for s in front)
    assert [s.metrics["backward_passes"] for s in front] == [20.0, 40.0, 20.0]
    for solution in front:
        for value in solution.train_losses:
            assert f"{value:6.4f}" in done.stdout
    assert "hypervolume" not in done.stdout
    assert "\n\nNearest to the rays: " in done.stdout


def test_without_a_number_of_rays_one_is_clearly_uneven(tmp_path):
    done = demo("--epochs", 1, "--method", "linear,mgda", "--more", "--out", "o", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    front = Front.load(tmp_path / "o" / "front.json")
    assert [s.preference for s in front] == [*PREFERENCES, None]
    assert max(max(r) / min(r) for r in PREFERENCES) == pytest.approx(4.0)
    for solution in front:
        for value in solution.test_losses:
            assert f"{value:6.4f}" in done.stdout
    assert re.search(r"^linear +3 +0\.", done.stdout, flags=re.MULTILINE)
    assert "hypervolume: the area" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Nearest to the rays: linear, mean")


def solution(method, r, train, test=None):
    return Solution(
        method=method,
        preference=r,
        train_losses=train,
        test_losses=test or train,
        metrics={
            "train_non_uniformity": pyfront.functional.non_uniformity(train, r),
            "train_worst_relative_loss": max(a * b for a, b in zip(r, train, strict=True)),
            "test_worst_relative_loss": max(a * b for a, b in zip(r, test or train, strict=True)),
        },
    )


def test_what_was_seen_is_computed_from_the_points():
    front = Front(
        [
            solution("linear", (0.5, 0.5), [1.0, 1.1]),
            solution("linear", (0.8, 0.2), [1.0, 1.1]),
            solution("EPO", (0.5, 0.5), [1.2, 1.2], [0.9, 0.9]),
            solution("EPO", (0.8, 0.2), [0.5, 2.0]),
            Solution(method="MGDA", train_losses=[1.0, 1.0]),
        ]
    )
    text = seen(front)
    assert text.startswith("Nearest to the rays: EPO, mean non-uniformity 0.00000 (linear 0.")
    assert text.endswith("below linear's at 1 of 2 preferences in training, at 2 in test.")
    assert seen(front[-1:]) == "No method here follows a preference."


def test_the_same_command_gives_the_same_numbers_for_any_number_of_workers(tmp_path):
    runs = []
    for folder, seed, workers in (("a", 3, 0), ("b", 3, 2), ("c", 4, 0)):
        done = demo(
            *("--epochs", 1, "--preferences", 2, "--method", "linear,epo"),
            *("--seed", seed, "--workers", workers, "--out", folder),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        front = Front.load(tmp_path / folder / "front.json")
        assert len(front) == 4
        runs.append([(s.method, s.preference, s.train_losses, s.test_losses) for s in front])
    assert runs[0] == runs[1]
    assert all(a[2] != c[2] for a, c in zip(runs[0], runs[2], strict=True))


def test_pareto_mtl_ends_in_the_regions_of_the_rays(tmp_path):
    done = demo(
        *("--method", "pareto-mtl", "--epochs", 1, "--preferences", 3, "--workers", 0),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    front = Front.load(tmp_path / "pyfront-demo" / "front.json")
    assert [s.method for s in front] == ["ParetoMTL"] * 3
    rays = to_reference_vectors(torch.tensor([s.preference for s in front])).numpy()
    nearest = (front.losses("train") @ rays.T).argmax(axis=1)
    assert nearest.tolist() == [0, 1, 2]


def test_one_network_gives_21_solutions_for_any_number_of_workers(tmp_path):
    runs = []
    for folder, workers in (("a", 0), ("b", 2)):
        done = demo(
            *("--epochs", 1, "--preferences", 2, "--method", "controllable,linear"),
            *("--workers", workers, "--more", "--out", folder),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert "2 runs of 20 steps each, one network of 40 steps" in done.stdout
        files = sorted(p.name for p in (tmp_path / folder).iterdir())
        assert files == ["controllable.pt", "front.json", "front.png"]
        front = Front.load(tmp_path / folder / "front.json")
        assert [s.method for s in front] == ["linear"] * 2 + ["controllable"] * 21
        runs.append([(s.method, s.preference, s.train_losses, s.test_losses) for s in front])
    assert runs[0] == runs[1]
    assert re.search(r"^controllable +21 +0\.", done.stdout, flags=re.MULTILINE)
    part = front[2:]
    assert [s.preference for s in part] == [pytest.approx(r) for r in rays_between(21)]
    assert len({s.train_losses for s in part}) == 21  # it has learnt to tell them apart
    net = pyfront.HyperNetwork(LeNet(12), 2, size=2.0)
    net.load_state_dict(torch.load(tmp_path / "b" / "controllable.pt", weights_only=True))


@pytest.mark.parametrize("index", [0, 2, 4])
def test_pareto_mtl_has_a_vector_for_every_ray_and_a_margin_inside_the_region(index):
    preferences = rays_between(5)
    base = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    opt = METHODS["pareto-mtl"].wrap(base, preferences[index], preferences)
    vectors = to_reference_vectors(torch.tensor(preferences, dtype=torch.float64))
    on_the_ray = [(u - vectors[index]) @ vectors[index] for u in vectors]
    on_the_ray.pop(index)
    assert opt.index == index
    assert max(on_the_ray) < -opt.epsilon < 0.0
    assert METHODS["pareto-mtl"].wrap(base, preferences[0], preferences[:1]).epsilon == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--method", "epo,adam"],
            "'adam': expected one of feedback, epo, linear, mgda, pareto-",
        ),
        (["--preferences", "0"], "'0': expected a whole number, 1 to 100"),
        (["--epochs", "1.5"], "'1.5': expected a whole number, 1 to 10000"),
        (["--workers", "-1"], "'-1': expected a whole number, 0 to 1000"),
        (["--seed", "-1"], "'-1': expected a whole number"),
        (["--dataset", "multi-mnist"], "--dataset needs --data"),
        (["--dataset", "cifar", "--data", "."], "invalid choice: 'cifar'"),
        (["--data", "missing"], "missing: no such folder"),
        (["--data", "."], "neither a folder 'mnist' nor idx files"),
        (["--out", "a-file"], "a-file"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "a-file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pyfront.cli.demo._demo", lambda *_: pytest.fail("it began to train"))
    with pytest.raises(SystemExit) as exit_:
        main(["demo", *arguments])
    assert exit_.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a-file"]


@pytest.mark.parametrize("package", ["matplotlib", "moocore", "sklearn", "tqdm"])
def test_a_missing_package_is_named_before_the_training(tmp_path, monkeypatch, capsys, package):
    def require(module, extra):
        if module.partition(".")[0] == package:
            raise ImportError(f'{package} is not installed: pip install "pyfront[{extra}]"')
        return importlib.import_module(module)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pyfront.cli.demo.import_extra", require)
    monkeypatch.setattr("pyfront.datasets.import_extra", require)
    monkeypatch.setattr("pyfront.cli.demo._demo", lambda *_: pytest.fail("it began to train"))
    with pytest.raises(SystemExit) as exit_:
        main(["demo"])
    assert exit_.value.code == 2
    assert f'{package} is not installed: pip install "pyfront[demo]"' in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_status_130_and_leaves_no_process(tmp_path):
    arguments = command("--out", tmp_path / "out", "--epochs", 1000, "--workers", 2)
    with subprocess.Popen(
        *(arguments,),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # which its workers do not leave
        # where the tests run in the background, SIGINT is ignored and inherited so
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        process.stdout.readline()  # printed when the training begins
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert errors.rstrip().endswith(b"interrupted")
    assert list(tmp_path.iterdir()) == []
    for _ in range(600):
        if not session(process.pid):
            return
        time.sleep(0.1)
    pytest.fail(f"still there: {session(process.pid)}")


def session(number):
    """The processes of a session that have not ended."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "sess=,stat=,command="], capture_output=True, text=True, check=True
    )
    lines = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
    return [line for line in lines if line[0] == str(number) and line[1][0] != "Z"]

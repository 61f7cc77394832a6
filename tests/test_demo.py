"""The command line: a short run end to end, its repeatability, and what it says to bad input."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from pyfront.cli import main
from pyfront.front import Front

for package in ("matplotlib", "moocore", "sklearn", "tqdm"):
    pytest.importorskip(package)

# One thread: the runs are small, and test machines are busy.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SHORT = ("--epochs", "1", "--preferences", "1")


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
    assert done.stdout.splitlines()[-1].endswith(str(tmp_path / "out"))
    front = Front.load(tmp_path / "out" / "front.json")
    assert [s.method for s in front] == ["EPO", "linear", "MGDA"]
    assert [s.preference is None for s in front] == [False, False, True]
    assert all(s.preference == pytest.approx((0.5, 0.5)) for s in front if s.preference)
    for solution in front:
        assert {"accuracy_1", "accuracy_2", "seconds"} <= set(solution.metrics)
        for value in (*solution.train_losses, *solution.test_losses):
            assert f"{value:6.4f}" in done.stdout
    names = re.findall(r"^(EPO|linear|MGDA) ", done.stdout, flags=re.MULTILINE)
    assert names == ["EPO", "linear", "MGDA"]


def test_the_same_command_gives_the_same_numbers(tmp_path):
    runs = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        done = demo(*(*SHORT, "--method", "linear", "--seed", seed, "--out", folder), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        runs.append(Front.load(tmp_path / folder / "front.json")[0])
    assert runs[0].train_losses == runs[1].train_losses != runs[2].train_losses
    assert runs[0].test_losses == runs[1].test_losses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "epo,adam"], "'adam': expected one of epo, linear, mgda"),
        (["--preferences", "0"], "'0': expected a whole number, 1 to 100"),
        (["--epochs", "1.5"], "'1.5': expected a whole number, 1 to 10000"),
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
    monkeypatch.setattr("pyfront.demo._demo", lambda *_: pytest.fail("it began to train"))
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
    monkeypatch.setattr("pyfront.demo.require", require)
    monkeypatch.setattr("pyfront.datasets.require", require)
    monkeypatch.setattr("pyfront.demo._demo", lambda *_: pytest.fail("it began to train"))
    with pytest.raises(SystemExit) as exit_:
        main(["demo"])
    assert exit_.value.code == 2
    assert f'{package} is not installed: pip install "pyfront[demo]"' in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_status_130(tmp_path):
    arguments = command("--out", tmp_path / "out", "--epochs", 1000)
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()  # printed when the training begins
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert errors.rstrip().endswith(b"interrupted")
    assert not any(p.is_file() for p in tmp_path.rglob("*"))

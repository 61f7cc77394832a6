"""What a run of a sweep is: names, seeds, and what is kept on the disk."""

import functools
import json
import os
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyfront import Front, Solution, sweep
from pyfront.sweeps.folder import RunFolder
from pyfront.sweeps.runs import as_runs, digest, fingerprint, run_seed

SOLUTION = Solution(method="a", train_losses=[1.0, 2.0], preference=[0.5, 0.5])
entries = st.floats(1e-6, 1e6)


def train(preference, **_):
    raise AssertionError("never called here")


@given(st.lists(st.tuples(entries, entries, entries), min_size=1, max_size=5, unique=True))
def test_a_run_does_not_depend_on_how_its_preference_is_given(preferences):
    expected = as_runs(preferences)
    assert expected == preferences
    for given_as in (np.array(preferences), torch.tensor(preferences, dtype=torch.float64)):
        for values in (given_as, list(given_as)):
            assert as_runs(values) == expected
    assert as_runs(list(map(np.array, preferences))) == expected


@given(st.tuples(entries, entries), st.tuples(entries, entries), st.integers(0, 2**64))
def test_seeds_differ_where_runs_or_sweeps_do(one, other, seed):
    assert 0 <= run_seed(one, seed) < 2**63
    assert (run_seed(one, seed) == run_seed(other, seed)) == (one == other)
    assert run_seed(one, seed) != run_seed(one, seed + 1)


def test_seeds_and_file_names_are_the_same_everywhere():
    """A change here would make every kept sweep start anew, with other numbers."""
    assert digest((0.5, 0.5)).hex()[:20] == "30ffc98eca75a505eeb4"
    assert run_seed(("EPO", (0.1, 0.9), None), 7) == 110500532599691535


@pytest.mark.parametrize(
    ("preferences", "error", "message"),
    [
        ([], ValueError, "preferences: expected at least one"),
        ([0.7, 0.3], TypeError, r"preferences\[0\] = 0.7: expected a preference, such as"),
        ([[0.5, 0.5], []], TypeError, r"preferences\[1\] = \[\]"),
        (["EPO"], TypeError, r"preferences\[0\] = 'EPO'"),
        ([[0.5, -0.5]], ValueError, r"preferences\[0\]\[1\] = -0.5: must be finite and ≥ 0"),
        ([[0.5, float("nan")]], ValueError, r"preferences\[0\]\[1\] = nan"),
        ([[0.0, 0.0]], ValueError, r"preferences\[0\]: at least one entry must be > 0"),
        (
            [[1, 2], [1, 2, 3]],
            ValueError,
            r"preferences\[1\]: expected 2 values.* got 3",
        ),
        ([[1, 2], [2, 2], (1.0, 2)], ValueError, r"preferences\[2\] = .*: the same as .*\[0\]"),
        ([("EPO", {1: 2})], TypeError, r"preferences\[0\]: \{1: 2\} is not a number, string, None"),
        ([("EPO", (1.0, float("inf")))], ValueError, r"preferences\[0\]: inf is not finite"),
    ],
)
def test_what_is_no_run_is_named(preferences, error, message):
    with pytest.raises(error, match=message):
        as_runs(preferences)


def test_a_folder_gives_back_what_was_kept_bit_for_bit(tmp_path):
    kept = RunFolder(tmp_path / "new" / "folder", train, 0)
    solution = Solution(method="a", train_losses=[0.1 + 0.2, 1e-300], metrics={"pi": np.pi})
    with kept.locked([(0.5, 0.5)]):
        kept.save((0.5, 0.5), solution)
    again = RunFolder(tmp_path / "new" / "folder", train, 0)
    assert again.load((0.5, 0.5)) == solution
    assert again.load((0.5, 0.6)) is None


@pytest.mark.parametrize(
    "content", ["{", '{"format": "other"}', Front().save, Front([SOLUTION, SOLUTION]).save]
)
def test_a_damaged_file_is_named_and_not_trained_over(tmp_path, content):
    kept = RunFolder(tmp_path, train, 0)
    with kept.locked([(0.5, 0.5)]):
        kept.save((0.5, 0.5), SOLUTION)
    (file,) = set(tmp_path.iterdir()) - {tmp_path / "sweep.json"}
    content(file) if callable(content) else file.write_text(content)
    with pytest.raises(ValueError, match=file.name):
        kept.load((0.5, 0.5))


@pytest.mark.parametrize("content", ["", "[]", '{"format": "pyfront.front"}'])
def test_a_folder_of_something_else_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=r"sweep.json: not (a JSON file|written by a sweep)"):
        RunFolder(tmp_path, train, 0)
    assert (tmp_path / "sweep.json").read_text() == content


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        RunFolder(tmp_path / "file", train, 0)


@dataclass(frozen=True)
class Settings:
    rate: float
    data: torch.Tensor


def variants():
    data = torch.arange(6.0)
    yield train
    yield functools.partial(train, 1)
    yield functools.partial(train, [1, None, "a"], rate=0.1)
    yield functools.partial(train, [1, None, "a"], rate=0.2)
    yield functools.partial(train, settings={"rate": 0.1, "words": {"a", "b"}})
    yield functools.partial(train, settings=Settings(0.1, data))
    yield functools.partial(train, settings=Settings(0.1, data + 1.0))
    yield functools.partial(train, data=data.bfloat16())
    yield functools.partial(train, data=data.reshape(2, 3).T)
    yield functools.partial(train, data=data.numpy())
    yield functools.partial(train, data=torch.tensor(1.0))
    yield functools.partial(train, loss=torch.nn.functional.mse_loss, dtype=torch.float32)
    yield functools.partial(train, loss=torch.nn.functional.l1_loss, dtype=torch.float32)
    yield functools.partial(train, model=torch.nn.Linear(2, 3))
    yield functools.partial(train, thing=object())


def test_descriptions_are_equal_exactly_where_the_arguments_are():
    texts = [json.dumps(fingerprint(variant)) for variant in variants()]
    assert texts == [json.dumps(fingerprint(variant)) for variant in variants()]
    assert len(set(texts)) == len(texts)


def test_nothing_is_left_of_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        RunFolder(tmp_path, train, 0)
    assert os.listdir(tmp_path) == []


def test_results_are_kept_where_the_sweep_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def leaving(preference):
        os.chdir(tmp_path / "elsewhere")
        return Solution(method="a", train_losses=list(preference), preference=preference)

    front = sweep(leaving, [[0.2, 0.8], [0.5, 0.5]], folder="runs", workers=0, progress=False)
    assert len(front) == 2
    assert len(list((tmp_path / "runs").glob("*.json"))) == 3  # two runs and the sweep
    assert not list((tmp_path / "runs").glob("*.lock"))

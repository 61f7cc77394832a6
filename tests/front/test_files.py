"""Fronts as JSON and as tables: exact numbers back, and clear errors for what is no front."""

import json
import math

import pytest
from absent import hide
from fronts import front_of, solution
from hypothesis import given
from hypothesis import strategies as st

from pyfront.front.front import Front, Solution

finite = st.floats(allow_nan=False, allow_infinity=False)


named = st.sampled_from([None, ("segmentation", "depth"), ("b/c", "a")])


def solutions_of(tasks):
    return st.lists(st.builds(Solution, tasks=st.just(tasks), **FIELDS), max_size=4)


FIELDS = dict(
    method=st.text(max_size=5),
    train_losses=st.tuples(finite, finite),
    test_losses=st.none() | st.tuples(finite, finite),
    preference=st.none() | st.tuples(st.floats(1e-300, 1e300), st.floats(0.0, 1.0)),
    metrics=st.dictionaries(st.text(max_size=3), finite, max_size=2),
    checkpoint=st.none() | st.text(max_size=3),
)
solutions = named.flatmap(solutions_of)


@given(solutions)
def test_saved_numbers_come_back_bit_for_bit(tmp_path_factory, solutions):
    path = tmp_path_factory.mktemp("front") / "front.json"
    Front(solutions).save(path)
    assert Front.load(path) == Front(solutions)
    assert [p.name for p in path.parent.iterdir()] == ["front.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "front.json"
    front_of([(1.0, 2.0)]).save(path)
    before = path.read_bytes()

    def fail(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        front_of([(3.0, 4.0)]).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["front.json"]


GOOD = {
    "method": "EPO",
    "train_losses": [1.0, 2.0],
    "test_losses": None,
    "preference": None,
    "metrics": {},
    "checkpoint": None,
    "tasks": None,
}


def saved(*solutions, **keywords):
    document = {"format": "pyfront.front", "version": 2, "solutions": list(solutions)}
    return json.dumps(document | keywords)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a JSON file"),
        ("\xff\xfe\x00", "not a JSON file"),
        (saved(GOOD)[:-20], "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[]", r"not a front saved by pyfront \(the file holds a list\)"),
        ('{"a": 1}', r"not a front saved by pyfront \('format' is missing\)"),
        ('{"format": "geo"}', r"not a front saved by pyfront \('format' is 'geo'\)"),
        (saved(GOOD, version=1), "version 1, this pyfront reads 2"),
        (saved(GOOD, version=True), "version True, this pyfront reads 2"),
        (saved(GOOD, solutions={}), "'solutions' is not a list"),
        (saved(GOOD, 7), "solution 1: expected an object, got 7"),
        (saved({"method": "EPO"}), "solution 0: missing keys: train_losses, test_losses, pref"),
        (saved(GOOD, GOOD | {"extra": 1}), "solution 1: unknown keys: extra"),
        (saved(GOOD | {"train_losses": [1.0, math.nan]}), r"solution 0: train_losses\[1\] = nan"),
        (saved(GOOD | {"train_losses": [1.0, "x"]}), r"solution 0: train_losses\[1\] = 'x'"),
        (saved(GOOD | {"train_losses": [1.0, 10**400]}), r"solution 0: train_losses\[1\] = 1"),
        (
            saved(GOOD, GOOD | {"train_losses": [1.0]}),
            ": solution 1 has 1 tasks, those",
        ),
    ],
)
def test_corrupt_and_foreign_files_are_named(tmp_path, text, message):
    path = tmp_path / "front.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as error:
        Front.load(path)
    assert str(path) in str(error.value)


def test_a_row_without_the_loss_of_a_named_task_is_refused():
    pytest.importorskip("pandas")
    table = Front([solution(1.0, 2.0, test=[3.0, 4.0], tasks=["a", "b"])]).to_pandas()
    assert list(table)[2:] == ["train_loss/a", "train_loss/b", "test_loss/a", "test_loss/b"]
    shuffled = table[["test_loss/b", "test_loss/a", *list(table)[:4]]]
    assert Front.from_pandas(shuffled) == Front.from_pandas(table)
    with pytest.raises(ValueError, match="row 0: test_loss/a is missing"):
        Front.from_pandas(table.drop(columns="test_loss/a"))
    with pytest.raises(ValueError, match="row 0: train_loss/b is missing"):
        Front.from_pandas(table.drop(columns="train_loss/b"))


def test_a_missing_file():
    with pytest.raises(FileNotFoundError):
        Front.load("no-such-front.json")


@given(solutions)
def test_a_table_gives_the_front_back(solutions):
    pytest.importorskip("pandas")
    front = Front(solutions)
    assert Front.from_pandas(front.to_pandas()) == front


def test_the_columns_of_a_table():
    pytest.importorskip("pandas")
    full = solution(1.0, 2.0, test=[3.0, 4.0], preference=[1, 2], metrics={"f1/a": 0.5})
    table = Front([solution(5.0, 6.0), full]).to_pandas()
    per_task = [f"{name}/{j}" for name in ("preference", "train_loss", "test_loss") for j in (0, 1)]
    assert list(table) == ["method", "checkpoint", *per_task, "metric/f1/a"]
    assert table["test_loss/1"].isna().tolist() == [True, False]
    assert list(Front().to_pandas()) == ["method", "checkpoint"]
    assert Front.from_pandas(table.iloc[[1]].drop(columns="checkpoint")) == Front([full])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"accuracy": [1.0]}, "column 'accuracy' is not one that to_pandas writes"),
        ({"train_loss/x": [1.0]}, "has columns of task 'x' and of task '0'"),
        ({"train_loss/01": [1.0]}, "task '01' of a column is not one that"),
        ({"train_loss/": [1.0]}, "column 'train_loss/' is not one"),
        ({3: [1.0]}, "column 3 is not one"),
        ({"train_loss/1": [None]}, "row 0: train_loss/1 is missing"),
        ({"train_loss/0": [None]}, "row 0: train_loss/0 is missing"),
        ({"test_loss/1": [1.0]}, "row 0: test_loss/0 is missing"),
        ({"train_loss/3": [1.0]}, "row 0: train_loss/2 is missing"),
        ({"test_loss/0": [1.0]}, "row 0: test_losses: 1 values for 2 tasks"),
        ({"train_loss/0": ["x"]}, r"row 0: train_losses\[0\] = 'x'"),
        ({"metric/a": [math.inf]}, r"row 0: metrics\['a'\] = inf"),
        ({"method": [None]}, "row 0: method is missing"),
    ],
)
def test_a_foreign_table_is_refused_by_row_and_column(columns, message):
    pandas = pytest.importorskip("pandas")
    good = {"method": ["a"], "train_loss/0": [1.0], "train_loss/1": [2.0]}
    with pytest.raises(ValueError, match=message):
        Front.from_pandas(pandas.DataFrame(good | columns))


def test_tables_that_are_none():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="expected a pandas DataFrame, got dict"):
        Front.from_pandas({"method": ["a"]})
    twice = pandas.DataFrame([["a", 1.0, 2.0]], columns=["method", "train_loss/0", "train_loss/0"])
    with pytest.raises(ValueError, match="column 'train_loss/0' is there twice"):
        Front.from_pandas(twice)


def test_a_missing_pandas_names_the_extra(monkeypatch):
    hide(monkeypatch, "pandas")
    for call in (Front().to_pandas, lambda: Front.from_pandas(None)):
        with pytest.raises(ImportError, match=r'pip install "pyfront\[pandas\]"'):
            call()

"""The data sets of the benchmarks: what is read, and errors that name the file and what to do."""

import gzip

import numpy as np
import pytest
import sets
import torch
from sets import Rows, load


@pytest.fixture(autouse=True)
def forget():
    load.cache_clear()
    yield
    load.cache_clear()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def arff(rows):
    return "@relation r\n@data\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n"


def rivers(folder, change=None):
    values = np.random.default_rng(0).normal(size=(400, 72)).round(3).tolist()
    if change:
        change(values)
    return write(folder / "riverflow" / "rf1.arff.gz", arff(values))


def test_river_flow_leaves_out_missing_values_and_far_rows_where_asked(tmp_path):
    def change(values):
        values[3][5] = "?"
        values[7][0] = 1e4

    rivers(tmp_path, change)
    rows, everything = load("riverflow", tmp_path), load("riverflow-all", tmp_path)
    assert [len(r.x) for r in (rows, everything)] == [398, 399]
    assert rows.count == round(0.7 * 398)
    assert rows.x.shape[1] == 64 and rows.tasks == 8
    assert rows.name == "riverflow"
    assert torch.allclose(rows.train[1].mean(dim=0), torch.zeros(8), atol=1e-5)


def test_emotions_come_with_their_own_split(tmp_path):
    for part, count in (("train", 5), ("test", 3)):
        values = [[k / 7] * 72 + [k % 2] * 6 for k in range(count)]
        write(tmp_path / "emotions" / f"emotions-{part}.arff", arff(values))
    rows = load("emotions", tmp_path)
    assert [len(part[0]) for part in (rows.train, rows.test)] == [5, 3]
    assert rows.test[1][:, 0].tolist() == [0.0, 1.0, 0.0]


def people(count):
    """Rows in the layout of the census: all columns alike but those that are targets."""
    rows = []
    for k in range(count):
        row = ["0" if place in sets.CENSUS_NUMBERS else f"kind {k % 3}" for place in range(42)]
        row[4] = (" Bachelors degree(BA AB BS)", " Children")[k % 2]
        row[7] = (" Never married", " Divorced", " Widowed")[k % 3]
        row[41] = (" 50000+.", " - 50000.", " - 50000.", " - 50000.")[k % 4]
        rows.append(",".join(row))
    return "\n".join(rows) + "\n"


def test_the_three_tasks_of_the_census(tmp_path):
    write(tmp_path / "census" / "census-income.test.gz", people(120))
    rows = load("census-3", tmp_path)
    assert rows.y.sum(dim=0).tolist() == [30.0, 60.0, 40.0]
    assert rows.count == 80


@pytest.mark.parametrize("name", list(sets.EMBEDDED))
def test_embedded_sets_need_no_folder(name):
    rows = load(name)
    assert 0 < rows.count < len(rows.x) == len(rows.y)
    assert torch.isfinite(rows.x).all()


def test_an_unknown_set_names_those_that_there_are():
    with pytest.raises(ValueError, match=r"set = 'mars': expected one of digits, .*riverflow"):
        load("mars")


def test_a_set_of_files_asks_for_their_folder():
    with pytest.raises(ValueError, match=r"'riverflow' is read from files.*--data.*digits"):
        load("riverflow")


def test_a_missing_file_is_named_with_the_folder_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"rf1\.arff\.gz: no such file; --data .* must"):
        load("riverflow", tmp_path)


def test_missing_pictures_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="mnist"):
        load("multi-mnist", tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    path = rivers(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"rf1\.arff\.gz: damaged .*; replace the file"):
        load("riverflow", tmp_path)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda values: values[4].pop(), r"row 5 has 71 columns, expected 72"),
        (lambda values: values[4].__setitem__(2, "many"), r"could not convert .*'many'"),
        (lambda values: values[4].__setitem__(2, "inf"), r"a value is not finite"),
    ],
)
def test_wrong_rows_are_named(tmp_path, change, said):
    rivers(tmp_path, change)
    with pytest.raises(ValueError, match=rf"rf1\.arff\.gz: {said}; replace the file"):
        load("riverflow", tmp_path)


def test_a_file_without_data_is_named(tmp_path):
    write(tmp_path / "riverflow" / "rf1.arff.gz", "nothing here\n")
    with pytest.raises(ValueError, match=r"rf1\.arff\.gz: no line '@data'"):
        load("riverflow", tmp_path)


def test_losses_and_accuracies_per_task():
    y = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    out = torch.tensor([[3.0, -3.0], [-3.0, 3.0]])
    rows = Rows(out, y, 1, "binary")
    assert rows.accuracies(out, y) == [1.0, 0.5]
    assert rows.losses(out, y)[0] == pytest.approx(np.log1p(np.exp(-3.0)))
    squares = Rows(out, out, 1, "squares")
    assert squares.losses(out + 2.0, out).tolist() == [2.0, 2.0]
    assert squares.accuracies(out, out) == [1.0, 1.0]
    labels = torch.tensor([[0, 1], [0, 0]])
    classes = Rows(out, labels, 1, "classes")
    assert classes.accuracies([out, out], labels) == [0.5, 0.0]

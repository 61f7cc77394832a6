"""`show` and `plot` on the command line: their tables and files, and what they say to bad input."""

import json

import pytest
from fronts import solution

from pyfront.cli.main import main
from pyfront.cli.show import report_lines
from pyfront.front.front import Front

for package in ("matplotlib", "moocore"):
    pytest.importorskip(package)


def example():
    return Front(
        [
            solution(
                0.2,
                0.8,
                test=[0.25, 1.0],
                preference=[0.8, 0.2],
                metrics={"accuracy": 0.5},
                checkpoint="a.pt",
            ),
            solution(0.5, 0.5, test=[0.5, 0.5], metrics={"accuracy": 0.75}),
            solution(0.9, 0.9, test=[1.0, 1.0], method="MGDA", metrics={"accuracy": 0.25}),
        ]
    )


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example().save("front.json")
    Front([solution(1.0, 2.0, 3.0)]).save("three.json")
    Front().save("empty.json")
    (tmp_path / "foreign.json").write_text('{"type": "map"}')
    (tmp_path / "broken.json").write_text('{"format": "pyfront.front"')
    document = json.loads((tmp_path / "front.json").read_text())
    document["solutions"][1]["train_losses"][0] = None
    (tmp_path / "field.json").write_text(json.dumps(document))
    return tmp_path


def test_show_prints_solutions_methods_and_the_best_compromise(saved, capsys):
    assert main(["show", "front.json", "front.json", "--metric", "accuracy"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "3 solutions, 2 not dominated (test losses)",
        "",
        "#  method  preference      task 1  task 2  angle  accuracy  dominated",
        "0  EPO     (0.800, 0.200)    0.25       1  0.00°       0.5",
        "1  EPO     any                0.5     0.5             0.75",
        "2  MGDA    any                  1       1             0.25        yes",
        "",
        "method  solutions  hypervolume    IGD+",
        "EPO             2        0.385       0",
        "MGDA            1         0.01  0.7286",
        "reference point (1.1, 1.1); IGD+ to the solutions that none dominates",
        "",
        "best compromise (knee): solution 0, EPO, a.pt",
    ]


def test_names_of_tasks_are_the_titles_of_columns(tmp_path, capsys):
    Front([solution(1.0, 2.0, tasks=["segmentation", "depth"])]).save(tmp_path / "a.json")
    main(["show", str(tmp_path / "a.json")])
    titles = capsys.readouterr().out.splitlines()[2]
    assert titles.split() == [
        "#",
        "method",
        "preference",
        "segmentation",
        "depth",
        "angle",
        "dominated",
    ]


def test_the_reference_point_and_the_split_can_be_given(saved, capsys):
    main(["show", "front.json", "--reference", "2,3", "--split", "train"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 solutions, 2 not dominated (training losses)"
    assert "reference point (2, 3); IGD+ to the solutions that none dominates" in lines
    (row,) = [line for line in lines if line.startswith("EPO ")]
    assert row.split() == ["EPO", "2", "4.41", "0"]  # 1.8 · 2.2 + 1.5 · 0.3


def test_an_approximate_hypervolume_is_marked(monkeypatch):
    monkeypatch.setattr("pyfront.front.measures._COST_LIMIT", 0.5)
    monkeypatch.setattr("pyfront.front.measures._FEW_POINTS", 0)
    (row,) = [line for line in report_lines(example()) if line.startswith("MGDA")]
    assert "  ≈0.0" in row


def test_many_tasks_fit_on_a_line():
    lines = report_lines(Front([solution(*range(1, 31), preference=[1.0] * 30)]))
    assert "task 8  …   angle" in lines[2]
    assert "(1.00, 1.00, 1.00, 1.00, …)" in lines[3]


def test_more_tasks_than_moocore_takes():
    lines = report_lines(Front([solution(*range(1, 41))]))
    assert "hypervolume and IGD+ are computed for at most 31 tasks" in lines
    assert lines[-1] == "best compromise (knee): solution 0, EPO"


def test_text_from_a_file_does_not_reach_the_terminal_raw():
    names = {"method": "a\x1b[31m\nb", "checkpoint": "\r", "tasks": ["\x1b", "b"]}
    text = "\n".join(report_lines(Front([solution(1.0, 2.0, **names)])))
    assert r"a\x1b[31m\nb" in text
    assert not set(text) & {"\x1b", "\r"}


@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.pdf", "a.html"])
def test_plot_writes_what_the_ending_says(saved, capsys, name):
    if name.endswith("html"):
        pytest.importorskip("plotly")
    main(["plot", "front.json", "--out", name])
    assert (saved / name).stat().st_size > 1000
    assert capsys.readouterr().out == f"{name} shows 3 solutions\n"


def test_plot_draws_relative_losses(saved):
    main(["plot", "front.json", "--relative", "--out", "a.svg"])
    main(["plot", "front.json", "--out", "b.svg"])
    assert (saved / "a.svg").read_bytes() != (saved / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show"], "the following arguments are required: front.json"),
        (["show", "missing.json"], "missing.json"),
        (["show", "."], "Is a directory"),
        (["show", "broken.json"], "broken.json: not a JSON file"),
        (["show", "foreign.json"], "foreign.json: not a front saved by pyfront ('format' is miss"),
        (["show", "field.json"], "field.json: solution 1: train_losses[0] = None: expected a num"),
        (["show", "empty.json"], "front: holds no solution"),
        (["show", "front.json", "three.json"], "three.json: fronts[1] has 3 tasks, those before"),
        (["show", "front.json", "--metric", "auc"], "solution 0 has no metric 'auc'; it has: 'acc"),
        (["show", "front.json", "--reference", "1,x"], "'1,x': expected numbers with commas"),
        (["show", "front.json", "--reference", "1"], "reference: shape (1,), expected (2,)"),
        (["show", "front.json", "--reference", "1,0.5"], "reference[1] = 0.5 is below loss 1 of s"),
        (["show", "three.json", "--split", "test"], "solution 0 has no test losses"),
        (["plot", "front.json"], "the following arguments are required: --out"),
        (["plot", "front.json", "--out", "a.gif"], "--out a.gif: expected the ending .png, .svg"),
        (["plot", "front.json", "--out", "no/a.png"], "no/"),
        (["plot", "empty.json", "--out", "a.html"], "front: holds no solution"),
        (["plot", "three.json", "--relative", "--out", "a.png"], "no solution has a preference"),
        (["plot", "front.json", "--relative", "--out", "a.html"], "--relative is drawn as a pict"),
    ],
)
def test_bad_input_is_one_line_and_status_2(saved, capsys, arguments, message):
    before = sorted(saved.iterdir())
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert sorted(saved.iterdir()) == before


def test_show_sets_other_methods_beside_linear_weights(saved, capsys):
    linear = solution(0.3, 0.7, test=[0.4, 1.0], preference=[4, 1], method="linear")
    Front([*example(), linear]).save("beside.json")
    assert main(["show", "beside.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("Beside linear: 1 solution, test losses; worst r·l below at 1")
    assert lines[start + 1 : start + 4] == [
        "method  preference      angle  linear  worst r·l  linear  mean loss  linear",
        "EPO     (0.800, 0.200)  0.00°   7.77°        0.2    0.32      0.625     0.7",
        "",
    ]
    Front([linear]).save("alone.json")
    assert main(["show", "alone.json"]) == 0
    assert "Beside" not in capsys.readouterr().out

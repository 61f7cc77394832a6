"""A type checker sees options, closures and reports as a user writes them."""

import textwrap

import pytest

CODE = """
    import torch
    import pyfront

    x = torch.nn.Parameter(torch.ones(2))
    base = torch.optim.SGD([x], lr=0.1)
    opt = pyfront.EPO(base, preference=[0.7, 0.3], every=2, scale="sum", weight_smoothing=0.9)
    report = opt.step([x[0], x[1]])
    weights: torch.Tensor = report.weights
    opt.step()
    opt.every = 3
    pyfront.MGDA(base, evry=2)  # a misspelt option
    pyfront.MGDA(base, scale="summ")  # a value that it cannot have
    opt.step().weights  # nothing was decided
"""


def test_a_type_checker_finds_what_is_wrong_and_nothing_else(tmp_path):
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    path = tmp_path / "user.py"
    path.write_text(textwrap.dedent(CODE))
    out, _, _ = api.run([str(path), "--strict", "--cache-dir", str(tmp_path / "cache")])
    lines = [line for line in out.splitlines() if "user.py" in line and ": error:" in line]
    wanted = ["evry", "summ", "weights"]
    assert len(lines) == 3, out
    assert all(word in line for word, line in zip(wanted, lines, strict=True)), out

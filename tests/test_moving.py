"""Every Python block of docs/moving.md runs, in the order of the page."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[1] / "docs" / "moving.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    """Line and code of each block; the line makes a traceback point into the page."""
    text = PAGE.read_text("utf-8")
    return [(text[: found.start(1)].count("\n"), found[1]) for found in BLOCK.finditer(text)]


def run(line, code, names):
    exec(compile("\n" * line + code, str(PAGE), "exec"), names)  # documentation of our own


def test_every_fence_of_the_page_is_a_block_that_is_run():
    fences = re.findall(r"^```(\w*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert fences == ["python", ""] * len(blocks()) and len(blocks()) >= 10


def test_the_blocks_run_in_order():
    names = {"__name__": "moving"}
    for line, code in blocks():
        if "import torchjd" not in code and "from torchjd" not in code:
            run(line, code, names)
    assert torch.isfinite(names["gradient"]()).all()


def test_what_the_page_says_of_torchjd_holds():
    if importlib.util.find_spec("torchjd") is None:
        pytest.skip("torchjd is not installed")
    if importlib.util.find_spec("qpsolvers") is None:
        pytest.skip("qpsolvers is not installed: TorchJD's projections need it")
    theirs = [(line, code) for line, code in blocks() if "torchjd" in code]
    assert theirs
    names = {"__name__": "moving"}
    run(*blocks()[0], names)
    for line, code in theirs:
        run(line, code, names)

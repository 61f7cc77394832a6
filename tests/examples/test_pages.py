"""The pages on frameworks show a change of few lines, and an example that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "frameworks").glob("*.md"))


def test_every_example_has_a_page():
    pages = "".join(text(page) for page in (ROOT / "docs").rglob("*.md"))
    links = re.findall(r"examples/(\w+\.py)", pages)
    files = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert set(links) == files - {"two_tasks.py"}


def text(page):
    return page.read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_change_is_at_most_three_lines(page):
    changes = re.findall(r"```diff\n(.*?)```", text(page), flags=re.DOTALL)
    assert changes
    for change in changes:
        added = [line for line in change.splitlines() if line.startswith("+")]
        assert 1 <= len(added) <= 3 and "pyfront" in change + text(page)

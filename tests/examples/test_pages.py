"""The pages on frameworks show a change of few lines, and an example that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "frameworks").glob("*.md"))


def test_every_page_has_an_example_that_exists():
    for page in PAGES:
        links = re.findall(r"examples/(\w+\.py)", text(page))
        assert links and all((ROOT / "examples" / name).exists() for name in links)


def text(page):
    return page.read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_change_is_at_most_three_lines(page):
    changes = re.findall(r"```diff\n(.*?)```", text(page), flags=re.DOTALL)
    assert changes
    for change in changes:
        added = [line for line in change.splitlines() if line.startswith("+")]
        assert 1 <= len(added) <= 3 and "pyfront" in change + text(page)

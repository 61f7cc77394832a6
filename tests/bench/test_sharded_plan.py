"""The plan on paper: the page shows what the script computes, and it obeys its own limits."""

from dataclasses import replace
from pathlib import Path

import pytest
import sharded_plan as plan

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
ONE = plan.RUNS[0]


@pytest.mark.parametrize("table", plan.tables(), ids=lambda table: table.split(",")[0].strip("| "))
def test_the_page_shows_what_the_script_computes(table):
    assert table in PAGE.read_text("utf-8")


def test_rows_take_m_times_the_share_of_the_parameters():
    plain, rows = (ONE.step(plan.M, rows=rows)[0] for rows in (0, plan.M))
    assert rows - plain == pytest.approx(4 * plan.M * ONE.n / ONE.gpus)


def test_where_arithmetic_takes_the_time_m_passes_cost_a_known_multiple():
    one, m = (ONE.step(passes)[2] for passes in (1, plan.M))
    assert m / one == pytest.approx((2 + 6 * plan.M) / 8, rel=1e-2)


@pytest.mark.parametrize("kept, numbers", [(False, 6), (True, 4)])
def test_at_the_threshold_link_and_arithmetic_take_the_same_time(kept, numbers):
    many = 2**20  # so many processes that (W - 1) / W is 1
    speed = plan.LINKS[ONE.link]
    at = replace(ONE, gpus=many, tokens=numbers / 6 * plan.FLOPS / speed)

    def seconds(factor):
        run = replace(at, tokens=factor * at.tokens)
        return run.step(2, kept=kept)[2] - run.step(1, kept=kept)[2]

    assert seconds(0.5) == pytest.approx(seconds(1.0), rel=1e-4)  # limited by the link
    assert seconds(2.0) == pytest.approx(2 * seconds(1.0), rel=1e-4)  # by arithmetic

"""The interactive page: what it holds, that it needs nothing else, and clicks in a real browser."""

import html
import json
import re

import browser
import pytest
from absent import hide
from fronts import solution

from pyfront.front.front import Front
from pyfront.plots import save_page

HOSTILE = "</script><script>document.title='run'</script><b>bold</b>&amp;${x}"


def example(tasks=2):
    share = [1.0 / tasks] * tasks
    return Front(
        [
            solution(*[0.2] * tasks, test=[0.25] * tasks, method=HOSTILE, preference=share),
            solution(
                *[0.75] * (tasks - 1),
                *[0.125],
                test=[0.8123] * (tasks - 1) + [0.15],
                method="EPO",
                preference=[1.0] * (tasks - 1) + [5.0],
                metrics={"accuracy": 0.875, "<i>": 2.0},
                checkpoint=f"runs/{HOSTILE}.pt",
            ),
        ]
    )


@pytest.fixture
def plotly():
    pytest.importorskip("plotly")


def page_data(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(
        re.search(r'<script type="application/json" id="page">(.*?)</script>', text)[1]
    )


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_every_solution_is_drawn_once_with_its_numbers(plotly, tmp_path, tasks):
    save_page(example(tasks), tmp_path / "front.html", title=HOSTILE)
    assert [p.name for p in tmp_path.iterdir()] == ["front.html"]
    page = page_data(tmp_path / "front.html")
    drawn = [trace for trace in page["traces"] if "meta" in trace]
    assert sorted({index for trace in drawn for index in trace["meta"]}) == [0, 1]
    if tasks <= 3:
        points = {t["meta"][0]: [t[name][0] for name in "xyz"[:tasks]] for t in drawn}
        assert points == {0: [0.25] * tasks, 1: [0.8123] * (tasks - 1) + [0.15]}
    assert dict(page["details"][1]) == {
        "method": "EPO",
        "preference": ", ".join(["1"] * (tasks - 1) + ["5"]),
        "training losses": ", ".join(["0.75"] * (tasks - 1) + ["0.125"]),
        "test losses": ", ".join(["0.8123"] * (tasks - 1) + ["0.15"]),
        "accuracy": "0.875",
        "<i>": "2",
        "checkpoint": f"runs/{HOSTILE}.pt",
    }


@pytest.mark.parametrize("count", [2, 3, 5])
def test_names_of_tasks_are_at_the_axes_and_in_the_panel(plotly, tmp_path, count):
    names = ["segmentation", "<b>depth", "c", "d", "e"][:count]
    save_page(Front([solution(*[0.5] * count, tasks=names)]), tmp_path / "front.html")
    page = page_data(tmp_path / "front.html")
    assert dict(page["details"][0])["training losses"].startswith("segmentation 0.5, <b>depth 0.5")
    shown = ["segmentation", "&lt;b&gt;depth", "c", "d", "e"][:count]
    if count == 5:
        assert page["layout"]["xaxis"]["ticktext"] == shown
    else:
        axes = page["layout"].get("scene", page["layout"])
        titles = [axes[f"{name}axis"]["title"]["text"] for name in "xyz"[:count]]
        assert titles == [f"training loss of {name}" for name in shown]


def test_text_from_a_file_cannot_become_part_of_the_page(plotly, tmp_path):
    save_page(example(), tmp_path / "front.html", title=HOSTILE)
    text = (tmp_path / "front.html").read_text(encoding="utf-8")
    assert "document.title='run'</script>" not in text
    assert f"<title>{html.escape(HOSTILE)}</title>" in text
    for trace in page_data(tmp_path / "front.html")["traces"]:
        for shown in (trace.get("name", ""), *trace.get("text", ())):
            assert not re.search("<(?!br>)", shown)


def test_the_page_names_no_other_file(plotly, tmp_path):
    save_page(example(), tmp_path / "front.html")
    text = (tmp_path / "front.html").read_text(encoding="utf-8")
    outside_plotly = re.sub(r"<script>/\*\*.*?</script>", "", text, flags=re.DOTALL)
    assert len(outside_plotly) < 20_000
    assert not re.search(r"(src|href)=|https?://", outside_plotly)


def test_pages_that_cannot_be_drawn(tmp_path):
    for front, message in (
        (Front(), "holds no solution"),
        (Front([solution(1.0)]), "1 task, expected at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            save_page(front, tmp_path / "front.html")
    with pytest.raises(ValueError, match="solution 0 has no test losses"):
        save_page(Front([solution(1.0, 2.0)]), tmp_path / "front.html", split="test")
    assert not list(tmp_path.iterdir())


def test_a_missing_plotly_names_the_extra(monkeypatch, tmp_path):
    hide(monkeypatch, "plotly")
    with pytest.raises(ImportError, match=r'pip install "pyfront\[html\]"'):
        save_page(example(), tmp_path / "front.html")


PANEL = """
const rows = [...document.querySelectorAll("#panel tr")];
return Object.fromEntries(rows.map((row) => [...row.cells].map((cell) => cell.textContent)))"""
CENTRE = """
const box = document.querySelectorAll("#plot .points path")[arguments[0]].getBoundingClientRect();
return [box.x + box.width / 2, box.y + box.height / 2]"""


@pytest.mark.skipif(browser.executables() is None, reason="no Chromium and chromedriver installed")
def test_a_click_on_a_solution_shows_its_numbers_and_checkpoint(plotly, tmp_path):
    with browser.browser() as chromium:
        for tasks in (2, 5):
            path = tmp_path / f"front{tasks}.html"
            save_page(example(tasks), path, title=HOSTILE)
            chromium.open(path)
            chromium.wait_for('document.body.dataset.ready === "yes"')
            assert chromium.run(PANEL) == {}
            for index, mark in ((1, len(example(tasks)) * (tasks if tasks > 3 else 1) - 1), (0, 0)):
                chromium.click(*chromium.run(CENTRE, mark))
                details = dict(page_data(path)["details"][index])
                chromium.wait_for(f"choice.selectedIndex === {index}")
                assert chromium.run(PANEL) == details
            assert chromium.run("return document.title") == HOSTILE
            assert chromium.run("return document.querySelectorAll('b, i').length") == 0
            assert chromium.complaints() == []

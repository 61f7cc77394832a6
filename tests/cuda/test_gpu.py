"""bench/gpu.py without a GPU: a part that fails, hangs or does not start is in the report."""

import os
import sys
import time

import gpu
import pytest


@pytest.fixture
def report(tmp_path):
    return gpu.Report(tmp_path)


def python(code):
    return [sys.executable, "-c", code]


def text(report):
    return (report.folder / "report.md").read_text()


def test_a_part_that_ends_well_leaves_its_last_lines(report):
    assert report.run("part", python("for k in range(9): print('line', k)"), 60, tail=2)
    assert "## part: ok" in text(report)
    assert "line 7\nline 8\n" in text(report) and "line 6" not in text(report)


def test_a_part_that_fails_leaves_more_of_them(report):
    assert not report.run("part", python("print('cause'); print(1); exit(3)"), 60, tail=1)
    assert "## part: FAILED (3)" in text(report) and "cause" in text(report)


def test_a_program_that_is_not_there_is_named(report):
    assert not report.run("part", ["no-such-program"], 60)
    assert "NOT STARTED" in text(report) and "no-such-program" in text(report)


def test_a_part_gets_its_variables_beside_ours(report, monkeypatch):
    monkeypatch.setenv("OURS", "1")
    show = python("import os; print(os.environ['OURS'], os.environ['ITS'])")
    assert report.run("part", show, 60, variables={"ITS": "2"})
    assert "1 2" in text(report) and "ITS" not in os.environ


def test_a_part_that_hangs_is_stopped_with_what_it_has_started(report, tmp_path):
    alive = tmp_path / "alive"
    child = f"import time\nwhile True: open({str(alive)!r}, 'w').close(); time.sleep(0.02)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert not report.run("part", python(code), 3)
    assert "STOPPED after 3 s" in text(report)
    alive.unlink()  # it was there
    time.sleep(0.2)
    assert not alive.exists()


def test_a_part_after_the_deadline_gets_a_second_all_the_same(report):
    report.deadline = time.monotonic()
    assert not report.run("part", python("import time; time.sleep(9)"), 60)
    assert "STOPPED after 1 s" in text(report)


@pytest.mark.parametrize("there", [True, False])
def test_what_is_missing_is_named_before_the_build(report, monkeypatch, tmp_path, there):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.touch(mode=0o755)
    tools = tmp_path / "tools"
    tools.mkdir()
    for program in gpu.PROGRAMS:
        (tools / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path if there else tmp_path / "elsewhere"))
    monkeypatch.setitem(gpu.OPTIONAL, "no_such_module", "nothing changes")
    assert gpu.ready(report) == there
    assert ("nvcc is neither" in text(report)) != there
    assert "no_such_module is not installed: nothing changes" in text(report)
    monkeypatch.setitem(gpu.NEEDED, "no_such_module", "no-such-package")
    (tools / "cmake").unlink()
    assert not gpu.ready(report)
    assert "no-such-package" in text(report) and "Not on the PATH: cmake." in text(report)

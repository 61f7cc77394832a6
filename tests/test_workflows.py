"""The workflows call make targets that exist, and the scripts of a release do what they say."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = sorted((ROOT / ".ci").glob("*.py"))


def targets():
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([\w-]+):", text, flags=re.MULTILINE))


def steps(workflow):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job.get("steps", ())]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_is_make_targets(workflow):
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    assert commands
    for command in commands:
        make, *words = re.sub(r"\$\{\{.*?\}\}", "x", command).split()
        named = [word for word in words if "=" not in word]
        assert make == "make" and named and set(named) <= targets()


def test_no_workflow_names_a_package_index_or_a_password():
    for workflow in WORKFLOWS:
        text = workflow.read_text("utf-8")
        assert not re.search(r"https?://|secrets\.|password", text.replace("of any password", ""))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_examples_of_the_scripts_run(script):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


def test_the_package_page_of_the_readme_has_no_relative_link():
    spec = importlib.util.spec_from_file_location("package_page", ROOT / ".ci" / "package_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "](docs/" in readme
    for source in (None, "https://host/me/it"):
        links = re.findall(r"\]\(([^)]+)\)", module.page(readme, source, "1.0"))
        assert all(link.startswith("https://") for link in links)

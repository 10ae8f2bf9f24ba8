"""What is published beside the code: the README on PyPI, the workflows that test and release."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/seedance-async/seedance-async"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def links(markdown):
    """Outside of code: the targets of links, the names used as links, and the names defined."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", markdown, flags=re.MULTILINE | re.DOTALL)
    definition = re.compile(r"^\[([^]]+)\]: *(\S+)$", flags=re.MULTILINE)
    defined = dict(definition.findall(prose))
    prose = definition.sub("", prose)
    inline = re.findall(r"\]\(([^)\s]+)\)", prose)
    used = set(re.findall(r"\[([^][]+)\](?![(\[])", prose))
    return [*inline, *defined.values()], used, set(defined)


def test_each_link_of_the_readme_works_on_pypi_and_names_a_file_that_exists():
    targets, used, defined = links((ROOT / "README.md").read_text("utf-8"))
    assert used == defined
    assert [target for target in targets if not target.startswith("https://")] == []
    inside = re.compile(f"{REPOSITORY}/(blob|raw|tree)/main/([^#]+)")
    found = [inside.match(target) for target in [*targets, *PROJECT["urls"].values()]]
    files = [match.groups() for match in found if match]
    assert len(files) >= 5
    for kind, path in files:
        assert (ROOT / path).is_dir() if kind == "tree" else (ROOT / path).is_file(), path


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_its_actions_and_asks_for_no_more_than_it_needs(path):
    text = path.read_text("utf-8")
    uses = re.findall(r"uses: *(.*)", text)
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)+", action), action
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        allowed = {"id-token": "write"} if name == "publish" else {"contents": "read"}
        assert job["permissions"] == allowed, name


def test_the_tests_run_on_each_python_that_the_package_names():
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    named = [
        name.removeprefix("Programming Language :: Python :: ")
        for name in PROJECT["classifiers"]
        if name.startswith("Programming Language :: Python :: ")
    ]
    assert ci["jobs"]["test"]["strategy"]["matrix"]["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"

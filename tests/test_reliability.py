"""docs/reliability.md names tests; each of them exists."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCUMENT = (TESTS.parent / "docs" / "reliability.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([a-z_/]+\.py)(?:::(\w+))?`", DOCUMENT)))
IN_TESTS = [(path, name) for path, name in NAMED if Path(path).name.startswith("test_")]


@pytest.mark.parametrize(("path", "name"), IN_TESTS)
def test_a_test_that_the_document_names_exists(path, name):
    path = path.removeprefix("tests/")
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    functions = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not name or name in functions


def test_the_document_names_a_test_for_most_rows():
    assert len(IN_TESTS) > 60

"""docs/reliability.md names tests; each of them exists."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
DOCUMENT = (TESTS.parent / "docs" / "reliability.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([a-z_/]+\.py)(?:::(\w+))?`", DOCUMENT)))
IN_TESTS = [(path, name) for path, name in NAMED if Path(path).name.startswith("test_")]


def functions_in(path):
    tree = ast.parse((TESTS / path.removeprefix("tests/")).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_every_test_that_the_document_names_exists():
    for path, name in IN_TESTS:
        assert not name or name in functions_in(path), f"{path}::{name}"


def test_the_document_names_a_test_for_most_rows():
    assert len(IN_TESTS) > 60

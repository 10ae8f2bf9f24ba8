"""The documents about failures name tests; each of them exists."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCUMENTS = [TESTS.parent / "docs" / name for name in ("reliability.md", "fleet.md")]


def named_in(document):
    named = re.findall(r"`([a-z_/]+\.py)(?:::(\w+))?`", document.read_text("utf-8"))
    return sorted({(path, name) for path, name in named if Path(path).name.startswith("test_")})


def functions_in(path):
    tree = ast.parse((TESTS / path.removeprefix("tests/")).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_test_that_a_document_names_exists(document):
    for path, name in named_in(document):
        assert not name or name in functions_in(path), f"{path}::{name}"


@pytest.mark.parametrize(("document", "most"), list(zip(DOCUMENTS, (60, 15), strict=True)))
def test_a_document_names_a_test_for_most_rows(document, most):
    assert len(named_in(document)) > most

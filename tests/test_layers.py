"""Imports point strictly downwards, type-only imports too; `transport` alone knows aiohttp."""

import ast
import sys
from pathlib import Path

import pytest

import seedance_async

PACKAGE = Path(seedance_async.__file__).parent
ROOT = "seedance_async"

#: Every module of the SDK and its level. One may import what is on a lower level, and no other.
LEVELS = {
    "_version": 0,
    "addresses": 0,
    "backoff": 0,
    "plain": 0,
    "shielding": 0,
    "models": 1,
    "errors": 2,
    "options": 3,
    "verdicts": 3,
    "protocol": 4,
    "registry": 4,
    "pacing": 4,
    "spend": 4,
    "learning": 1,
    "transport": 5,
    "job": 5,
    "journal": 5,
    "stats": 5,
    "telling": 5,
    "events": 6,
    "schedule": 5,
    "webhooks": 5,
    "client": 6,
    "partfiles": 5,
    "downloads": 6,
    "books": 6,
    "poller": 7,
    "bulk": 7,
    "forecast": 7,
    "leaving": 8,
    "resuming": 8,
    "launcher": 9,
    "session": 10,
}

#: What is beside or above the root, and the parts of the SDK that each may import.
#: The command line shows and settles what a journal holds; the root, which must not import
#: sqlite3, does not have those names.
USERS = {
    "cli": {ROOT, "cli", "emulator", "journal", "forecast"},
    "testing": {ROOT, "emulator"},
    "otel": {ROOT},
    "emulator": {"emulator"},
}


def imported(source, module, *, is_package=False):
    """The modules that a module imports, wherever in it and for whatever purpose.

    Of what is imported from the root, the name goes along: it may be a module.
    """
    names = set()
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            names.update({f"{base}.{a.name}" for a in node.names} if base == ROOT else {base})
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names.update(a.value for a in node.args if isinstance(a, ast.Constant))
    return names


def first_part(name):
    """Of a name inside the SDK its first part; None for the root itself and for others."""
    parts = name.split(".")
    return parts[1] if parts[0] == ROOT and len(parts) > 1 else None


def may_import(part, name):
    """Whether the part of the SDK may import this name. The root, part None, may import any."""
    if name.split(".")[0] == "aiohttp":
        server = part == "webhooks" and name == "aiohttp.web"
        return server or part in ("transport", "emulator")
    if name.split(".")[0] != ROOT or part is None:
        return True
    other = first_part(name)
    if part not in USERS:
        if other == part and (PACKAGE / part).is_dir():  # a room of several files
            return name != f"{ROOT}.{part}"
        return other in LEVELS and LEVELS[other] < LEVELS.get(part, -1)
    public = name == ROOT or name.removeprefix(f"{ROOT}.") in seedance_async.__all__
    return other in USERS[part] or (public and ROOT in USERS[part])


def forbidden(module, source, *, is_package=False):
    """What a module imports and must not."""
    names = imported(source, module, is_package=is_package)
    return sorted(name for name in names if not may_import(first_part(module), name))


def files():
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_a_module_imports_only_what_is_below_it(path):
    is_package = path.name == "__init__.py"
    assert forbidden(name_of(path), path.read_text("utf-8"), is_package=is_package) == []


def test_every_module_has_a_level():
    """A new file without one fails here: think of where it belongs, and write it down."""
    there = {first_part(name_of(path)) for path in files()} - {None}
    assert there <= set(LEVELS) | set(USERS)
    assert set(LEVELS) <= there


def test_nothing_but_the_standard_library_and_the_dependencies_is_imported_by_the_sdk():
    allowed = {"aiohttp", "anyio", "attrs", "cattrs", "yarl", ROOT, *sys.stdlib_module_names}
    for path in files():
        if first_part(name_of(path)) in LEVELS:
            names = imported(path.read_text("utf-8"), name_of(path))
            assert {name.split(".")[0] for name in names} <= allowed


# --- the checker itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("models", "from seedance_async.api.errors import SeedanceError"),
        ("registry", "from seedance_async.api.protocol import WireRequest"),  # the same level
        ("job", "import seedance_async.session.session"),
        ("job", "from seedance_async import session"),
        ("job", "from seedance_async import SeedanceSession"),
        ("job", "import seedance_async"),
        ("job", "from . import session"),
        ("job", "from .session import SeedanceSession"),
        ("job", "def later():\n    from seedance_async.session.session import SeedanceSession"),
        (
            "job",
            "if TYPE_CHECKING:\n    from seedance_async.session.session import SeedanceSession",
        ),
        ("job", "importlib.import_module('seedance_async.session.session')"),
        ("job", "from seedance_async.jobs.job import Job"),
        ("journal.memory", "import seedance_async.jobs.job"),
        ("journal.memory", "from seedance_async.journal import JournalEntry"),
        ("journal.memory", "from . import entry"),
        ("session", "from seedance_async.cli import main"),
        ("session", "from seedance_async.emulator import Emulator"),
        ("session", "from seedance_async.unknown import x"),
        ("client", "import aiohttp"),
        ("client", "from aiohttp.client import ClientSession"),
        ("webhooks", "import aiohttp"),
        ("client", "from aiohttp.web import Response"),
        ("cli.app", "from seedance_async.session.session import SeedanceSession"),
        ("cli.app", "from seedance_async import session"),
        ("cli.app", "import aiohttp"),
        ("testing", "from seedance_async.api.protocol import check"),
        ("emulator.app", "from seedance_async import GenerationRequest"),
        ("emulator.app", "from seedance_async.api.request import GenerationRequest"),
        ("emulator.app", "from ..models import GenerationRequest"),
    ],
)
def test_a_forbidden_import_is_found(module, source):
    assert forbidden(f"{ROOT}.{module}", source) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "from seedance_async.api.request import Generation"),
        ("client", "from seedance_async import protocol"),
        ("client", "import json, asyncio"),
        ("transport", "import aiohttp"),
        ("webhooks", "from aiohttp.web import Response"),
        ("journal.memory", "from seedance_async.journal.entry import JournalEntry"),
        ("journal.memory", "from .entry import JournalEntry"),
        ("cli.app", "from seedance_async import SeedanceSession"),
        ("cli.app", "from seedance_async.cli.exit_codes import ExitCode"),
        ("cli.app", "from .exits import ExitCode"),
        ("testing", "from seedance_async.emulator import Emulator"),
        ("emulator.app", "from aiohttp import web"),
        ("emulator.app", "from seedance_async.emulator.jobs import Job"),
    ],
)
def test_an_allowed_import_is_not_found_fault_with(module, source):
    assert forbidden(f"{ROOT}.{module}", source) == []

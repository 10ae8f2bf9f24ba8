"""Which part may import which: a table of the pairs that are used, and no others.

A part is a module or folder of the second level (`api.client`, `jobs.polling`), or one of the first
level where that is a world of its own (`cli`, `emulator`). Imports inside functions and for type
checkers count. `python tests/test_layers.py` writes the table into docs/architecture.md.
"""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import seedance_async

ROOT = "seedance_async"
PACKAGE = Path(seedance_async.__file__).parent
DOCUMENT = PACKAGE.parent / "docs" / "architecture.md"

#: For each part the parts that it may import. A pair that nobody uses any more must go.
RULES = """
_utils:
_utils.cancellation:
_utils.deadlines:
_utils.elapsed:
_utils.json_values:
_utils.number_runs:
_utils.packages:
_utils.plural:
_utils.urls:
_utils.version:
_utils.whole_file:
api:
api.backoff:
api.capabilities: api.errors api.models api.request
api.client: _utils.cancellation _utils.elapsed _utils.plural api.capabilities api.errors
    api.long_waits api.models api.option_fields api.options api.prepared_request api.protocol
    api.rate_limit api.request api.retry api.transport
api.errors: api.models api.request
api.extra_fields: _utils.json_values
api.job_media:
api.local_media:
api.long_waits:
api.models: _utils.urls
api.option_fields: api.backoff api.errors
api.options: _utils.urls api.backoff api.errors api.option_fields
api.prepared_request: api.capabilities api.errors api.extra_fields api.job_media api.local_media
    api.models api.request api.rules
api.protocol: api.backoff api.errors api.models api.prepared_request
api.rate_limit: api.backoff
api.request: api.extra_fields api.job_media api.local_media api.models api.rules api.vocabulary
api.retry: api.errors api.options api.rate_limit
api.rules: _utils.json_values _utils.number_runs _utils.urls api.extra_fields api.job_media
    api.local_media api.models api.vocabulary
api.transport: _utils.urls _utils.version api.errors api.option_fields api.options api.protocol
api.vocabulary:
cli: _utils.number_runs _utils.packages _utils.plural _utils.whole_file api.job_media
    api.local_media api.models api.prepared_request api.retry emulator engines engines.dbos
    jobs.downloads jobs.events jobs.job jobs.registry jobs.state jobs.stats journal journal.copying
    journal.database journal.keys journal.reading media media.extra media.fitting media.frames
    media.gallery media.joining media.posters media.sheet media.sidecar media.tags root
    session.credit_limit session.estimate
emulator:
engines: engines.contract engines.task engines.work
engines.callbacks: journal.writing root webhooks
engines.contract: engines.task root
engines.dbos: _utils.elapsed _utils.packages _utils.plural api.errors api.option_fields
    api.prepared_request engines.callbacks engines.contract engines.results engines.submits
    engines.task engines.turns engines.work journal journal.database journal.keys journal.owner
    journal.reading root
engines.making: api.retry engines.results engines.submits engines.task journal root
    session.journaling
engines.results: engines.task jobs.downloads media root
engines.submits: root
engines.task: root
engines.turns:
engines.work: engines.making engines.results engines.submits engines.task root
jobs:
jobs.downloads: _utils.cancellation _utils.plural api.errors api.long_waits api.models api.options
    api.transport jobs.registry
jobs.events: api.errors api.long_waits api.models api.rate_limit api.request jobs.registry
    jobs.state
jobs.job: _utils.plural api.errors api.job_media api.models api.request jobs.downloads jobs.registry
    jobs.state jobs.updates
jobs.polling: _utils.cancellation _utils.deadlines _utils.elapsed api.backoff api.errors api.models
    api.rate_limit jobs.events jobs.registry jobs.state jobs.stats
jobs.registry: api.errors api.models api.request jobs.state
jobs.state: api.models
jobs.stats: api.long_waits jobs.state
jobs.updates: jobs.registry jobs.state jobs.stats
journal: journal.contract journal.entry journal.journal_file journal.keys journal.nudges
    journal.postgres journal.sqlite
journal.contract: api.errors journal.entry journal.nudges
journal.copying: _utils.plural api.errors jobs.state journal.database journal.journal_file
    journal.reading journal.rows journal.statements journal.writing
journal.database: api.errors jobs.state journal.contract journal.entry journal.nudges journal.owner
    journal.owners journal.spending journal.statements journal.turns
journal.entry: api.errors api.prepared_request api.request jobs.state
journal.journal_file: api.errors journal.database journal.entry journal.lock journal.schema
    journal.sqlite_statements
journal.keys: api.prepared_request api.request journal.entry
journal.lock: api.errors
journal.nudges: journal.statements
journal.open_state: api.errors
journal.owner:
journal.owners: api.errors journal.owner journal.statements
journal.postgres: _utils.packages api.errors journal.database journal.statements journal.threaded
    journal.writer
journal.reading: journal.database journal.journal_file journal.postgres
journal.rows: jobs.state journal.database
journal.schema: api.prepared_request journal.entry
journal.spending: api.errors journal.contract journal.owners journal.statements
journal.sqlite: journal.journal_file journal.owner journal.threaded journal.writer
journal.sqlite_statements: journal.statements
journal.statements:
journal.threaded: _utils.cancellation api.errors journal.contract journal.database journal.entry
    journal.nudges journal.open_state journal.writer
journal.turns: journal.statements
journal.writer: api.errors journal.database
journal.writing: api.errors journal.database journal.journal_file journal.postgres journal.reading
media: api.local_media jobs.downloads media.emulator_uploader media.results_store
    media.store_uploader
media.boxes:
media.clips: media.extra
media.emulator_uploader: api.errors api.local_media
media.extra: _utils.packages api.errors
media.fitting: api.errors api.local_media api.request media.pictures
media.frames: media.clips media.extra
media.gallery:
media.joining: media.clips media.extra
media.multipart: _utils.cancellation
media.packets: media.clips
media.pictures: media.extra
media.posters: _utils.whole_file media.extra media.frames media.sidecar
media.process_end:
media.results_store: api.errors jobs.downloads jobs.registry media.multipart media.process_end
media.sheet: media.extra media.frames media.sidecar
media.sidecar: _utils.whole_file api.errors api.local_media api.prepared_request api.request
    media.fitting
media.store_uploader: api.errors api.local_media media.process_end
media.tags: media.boxes media.packets media.sidecar
otel: root
session:
session.batch: _utils.plural api.errors api.prepared_request api.request api.retry jobs.job
    jobs.registry jobs.state session.chaining session.completed_jobs session.journaling
    session.source session.stream session.submitter session.uploads
session.chaining: _utils.urls api.errors api.job_media api.local_media api.models
    api.prepared_request api.request jobs.job jobs.registry jobs.state media.frames session.uploads
session.completed_jobs: jobs.job
session.credit_limit: api.errors api.models api.request
session.estimate: api.prepared_request api.request journal session.credit_limit
session.journaling: _utils.cancellation _utils.elapsed _utils.urls api.errors api.long_waits
    api.prepared_request api.request jobs.registry jobs.state journal session.credit_limit
session.options: api.backoff api.client api.local_media api.option_fields jobs.events jobs.polling
    journal webhooks
session.orphans: api.errors api.prepared_request api.request jobs.registry jobs.state
session.outcomes: api.client api.errors api.models jobs.polling jobs.registry jobs.state
    session.credit_limit session.journaling
session.passed_on: api.errors journal webhooks
session.resumer: _utils.cancellation api.errors api.models api.protocol jobs.events jobs.job
    jobs.polling jobs.registry jobs.state journal session.journaling
session.running_keys: api.errors api.prepared_request jobs.registry jobs.state session.journaling
    session.resumer
session.session: _utils.cancellation api.client api.errors api.models api.option_fields
    api.prepared_request api.request jobs.downloads jobs.events jobs.job jobs.polling jobs.registry
    jobs.state jobs.stats jobs.updates journal session.batch session.chaining session.credit_limit
    session.journaling session.options session.resumer session.shutdown session.source
    session.submitter session.uploads session.webhook_callbacks
session.shutdown: _utils.cancellation _utils.plural api.client api.errors jobs.polling jobs.registry
    jobs.state session.journaling session.options session.uploads session.webhook_callbacks
session.source: api.job_media api.request
session.stream: _utils.cancellation api.errors jobs.registry session.source
session.submitter: _utils.cancellation api.client api.errors api.prepared_request api.request
    jobs.events jobs.polling jobs.registry jobs.state journal session.chaining session.credit_limit
    session.journaling session.orphans session.outcomes session.resumer session.running_keys
    session.shutdown session.uploads session.webhook_callbacks
session.uploads: _utils.plural _utils.urls api.errors api.local_media api.prepared_request
    api.request
session.webhook_callbacks: _utils.cancellation api.backoff api.errors api.models
    api.prepared_request jobs.registry jobs.state journal session.passed_on webhooks
testing: emulator
webhooks: webhooks.nonces webhooks.passing_on webhooks.receiver
webhooks.nonces:
webhooks.passing_on: _utils.cancellation webhooks.nonces
webhooks.receiver: _utils.urls api.errors api.protocol webhooks.passing_on
"""


def parsed(rules: str) -> dict[str, set[str]]:
    """The rules as sets; a line that is indented continues the one before."""
    lines = re.sub(r"\n +", " ", rules).strip().splitlines()
    pairs = (line.partition(":") for line in lines)
    return {part: set(others.split()) for part, _, others in pairs}


ALLOWED = parsed(RULES)

#: Parts of one level: what is inside is their own business.
WHOLE = {"cli", "emulator"}

#: Modules that need an extra.
WITH_EXTRAS = {
    "journal.postgres",
    "engines.dbos",
    "media.clips",
    "media.frames",
    "media.joining",
    "media.multipart",
    "media.pictures",
    "media.posters",
    "media.results_store",
    "media.sheet",
    "media.store_uploader",
}

#: Who may import aiohttp: the transports; the receiver, the emulator and the gallery, which serve
#: HTTP; and the options, for type checkers alone.
AIOHTTP = {"api.transport", "api.options", "webhooks.receiver", "emulator", "media.gallery"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(source: str, module: str, *, is_package: bool = False) -> set[str]:
    """The modules that a module imports, anywhere in it and for any purpose."""
    names = set()
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                names.add(name if name in MODULES else base)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names.update(a.value for a in node.args if isinstance(a, ast.Constant))
    return names


def part_of(module: str) -> str:
    """The part of a module of the package; "root" for the root itself."""
    parts = module.split(".")[1:]
    return parts[0] if parts and parts[0] in WHOLE else ".".join(parts[:2]) or "root"


def parts_imported(module: str, source: str, *, is_package: bool = False) -> set[str]:
    """The other parts that a module imports."""
    names = imported(source, module, is_package=is_package)
    inside = {name for name in names if name.split(".")[0] == ROOT}
    return {part_of(name) for name in inside} - {part_of(module)}


def forbidden(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What a module imports and must not."""
    part = part_of(module)
    if part == "root":
        return []
    wrong = parts_imported(module, source, is_package=is_package) - ALLOWED[part]
    names = imported(source, module, is_package=is_package)
    wrong |= {n for n in names if n.split(".")[0] == "aiohttp" and part not in AIOHTTP}
    return sorted(wrong)


def sources():
    for module, path in MODULES.items():
        yield module, path.read_text("utf-8"), path.name == "__init__.py"


def used() -> dict[str, set[str]]:
    """For each part what it imports today."""
    pairs: dict[str, set[str]] = {}
    for module, source, is_package in sources():
        found = parts_imported(module, source, is_package=is_package)
        pairs.setdefault(part_of(module), set()).update(found)
    pairs.pop("root")
    return pairs


def test_every_part_imports_what_the_table_allows_and_nothing_else():
    assert used() == ALLOWED


def test_only_the_transports_and_the_servers_import_aiohttp():
    for module, source, is_package in sources():
        assert forbidden(module, source, is_package=is_package) == []


def test_no_module_imports_itself_through_others():
    graph = {
        module: {n for n in imported(source, module, is_package=is_package) if n in MODULES}
        for module, source, is_package in sources()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_sdk_imports_the_standard_library_and_its_four_dependencies_alone():
    brought = {"multidict", "yarl"}  # by aiohttp, whose interface has their types
    allowed = {"aiohttp", "anyio", "attrs", "cattrs", ROOT, *brought, *sys.stdlib_module_names}
    for module, source, is_package in sources():
        if part_of(module) not in {*WHOLE, "otel", "testing", *WITH_EXTRAS}:
            names = imported(source, module, is_package=is_package)
            assert {name.split(".")[0] for name in names} <= allowed, module


# --- the checker itself -------------------------------------------------------------------------


FORBIDDEN = [
    ("api.request", "from seedance_async.api.errors import SeedanceError"),
    ("jobs.registry", "from seedance_async.api.protocol import WireRequest"),
    ("jobs.job", "import seedance_async.session.session"),
    ("jobs.job", "from seedance_async import SeedanceSession"),
    ("jobs.job", "from seedance_async.session import session"),
    ("jobs.job", "from ..session.session import SeedanceSession"),
    (
        "jobs.job",
        "def later():\n    from seedance_async.session.session import SeedanceSession",
    ),
    ("jobs.job", "if TYPE_CHECKING:\n    import seedance_async.session.session"),
    ("jobs.job", "importlib.import_module('seedance_async.session.session')"),
    ("session.session", "from seedance_async.cli import main"),
    ("session.session", "from seedance_async.emulator import Emulator"),
    ("api.client", "import aiohttp"),
    ("api.client", "from aiohttp.web import Response"),
    ("cli.app", "from seedance_async.session.session import SeedanceSession"),
    ("testing", "from seedance_async.api.prepared_request import prepare"),
    ("emulator.app", "from seedance_async import GenerationRequest"),
    ("emulator.app", "from ..api.request import GenerationRequest"),
]


def test_a_forbidden_import_is_found():
    missed = [pair for pair in FORBIDDEN if not forbidden(f"{ROOT}.{pair[0]}", pair[1])]
    assert missed == []


# --- the table in docs/architecture.md ----------------------------------------------------------

BEGIN, END = "<!-- parts: made by tests/test_layers.py -->", "<!-- end of parts -->"


def table() -> str:
    """The parts as Markdown: what each owns, by its docstring, and what it may import."""
    lines = ["| part | what it owns | imports |", "| --- | --- | --- |"]
    for part, others in sorted(ALLOWED.items()):
        source = MODULES[f"{ROOT}.{part}"].read_text("utf-8")
        owns = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
        owns = " ".join(owns.split()).replace("|", "\\|")
        lines.append(f"| `{part}` | {owns} | {' '.join(sorted(others)) or 'nothing'} |")
    return "\n".join(lines)


def with_table(document: str) -> str:
    pattern = f"{re.escape(BEGIN)}.*{re.escape(END)}"
    return re.sub(pattern, lambda _: f"{BEGIN}\n{table()}\n{END}", document, flags=re.DOTALL)


def test_the_architecture_page_shows_this_table():
    document = DOCUMENT.read_text("utf-8")
    assert table() in document
    assert with_table(document) == document


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text("utf-8")), "utf-8")

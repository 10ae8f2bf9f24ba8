"""What the journal's tests share: each kind of journal, open, on a clock that the test moves."""

import attrs
import pytest

from seedance_async.journal import SQLiteJournal
from tests.support.memory_journal import MemoryJournal

START = 1_700_000_000.0
PLAIN = {"fingerprint": "f", "request": "{}"}


@attrs.define
class Clock:
    """A wall clock that stands still until it is set, forwards or back."""

    now: float = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture(params=["memory", "sqlite"])
def new_journal(request, clock, path):
    """Makes a journal of each kind, not yet open. Another kind of journal joins here."""
    if request.param == "memory":
        return lambda: MemoryJournal(clock=clock)
    return lambda: SQLiteJournal(path, clock=clock)


@pytest.fixture
async def journal(new_journal):
    journal = new_journal()
    await journal.open()
    yield journal
    await journal.aclose()


@pytest.fixture
async def on_disk(path, clock):
    """An open journal in a file."""
    journal = SQLiteJournal(path, clock=clock)
    await journal.open()
    yield journal
    await journal.aclose()

"""Any operations in any order: both journals agree, also once the file is opened again."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal, read_entries
from seedance_async.journal.entry import STATES
from tests.journal.conftest import Clock
from tests.support.memory_journal import MemoryJournal

ANY_TEXT = st.text(max_size=12) | st.text(st.characters(), max_size=6)
KEYS = st.sampled_from(["a", "b", "c", "c "]) | ANY_TEXT
NUMBERS = st.none() | st.integers(-1, 2**63)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(sorted(STATES)),
        "request_id": st.none() | st.sampled_from(["r1", "r2"]) | ANY_TEXT,
        "credits_charged": NUMBERS,
        "credits_reserved": NUMBERS,
        "credits_doubtful": NUMBERS,
        "error": st.none() | ANY_TEXT,
        "path": st.none() | ANY_TEXT,
        "size": NUMBERS,
        "sha256": st.none() | ANY_TEXT,
    },
)
EXPECTED = st.sampled_from(["rejected", "uncertain", "submitting", "queued"])


class BothJournals(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "run.db"
        self.clock = Clock()

    @initialize()
    def begin(self):
        self.memory = MemoryJournal(clock=self.clock)
        self.file = SQLiteJournal(self.path, clock=self.clock)
        self.runner.run(self.memory.open())
        self.runner.run(self.file.open())

    async def outcome(self, journal, act):
        """The result of a call, or an error's message without the journal's name."""
        try:
            awaitable = act(journal)
            return await awaitable if awaitable is not None else None
        except JournalError as error:
            return str(error).removeprefix(f"journal {error.path}: "), error.request_id

    def both(self, act):
        self.clock.now += 1.5
        in_memory = self.runner.run(self.outcome(self.memory, act))
        in_file = self.runner.run(self.outcome(self.file, act))
        assert in_file == in_memory
        return in_file

    @rule(key=KEYS, fingerprint=ANY_TEXT, request=ANY_TEXT, reserved=NUMBERS)
    def claim(self, key, fingerprint, request, reserved):
        values = {"fingerprint": fingerprint, "request": request, "credits_reserved": reserved}
        self.both(lambda journal: journal.claim(key, **values))

    @rule(key=st.sampled_from(["a", "b", "c", "c "]))
    def claim_plainly(self, key):
        self.both(lambda journal: journal.claim(key, fingerprint="f", request="{}"))

    @rule(key=KEYS, expected=EXPECTED, reserved=NUMBERS)
    def reclaim(self, key, expected, reserved):
        options = {"expected": expected, "credits_reserved": reserved}
        self.both(lambda journal: journal.reclaim(key, **options))

    @rule(key=KEYS, changes=CHANGES)
    def update(self, key, changes):
        self.both(lambda journal: journal.update(key, **changes))

    @rule(key=KEYS, changes=CHANGES)
    def update_soon(self, key, changes):
        self.both(lambda journal: journal.update_soon(key, **changes))

    @rule(key=KEYS)
    def find(self, key):
        self.both(lambda journal: journal.find(key))

    @rule(keys=st.lists(KEYS, max_size=3))
    def forget(self, keys):
        self.both(lambda journal: journal.forget(keys))

    @rule()
    def entries(self):
        self.both(lambda journal: journal.entries())

    @rule()
    def close_and_open_the_file_again(self):
        """Closing loses nothing: the same entries are there when it is opened again."""
        self.both(lambda journal: journal.flush())  # closing would raise a kept failure
        entries = self.both(lambda journal: journal.entries())
        assert read_entries(self.path) == entries
        self.runner.run(self.file.aclose())
        assert read_entries(self.path) == entries
        self.file = SQLiteJournal(self.path, clock=self.clock)
        self.runner.run(self.file.open())
        assert self.runner.run(self.file.entries()) == entries

    def teardown(self):
        if hasattr(self, "file"):
            self.close_and_open_the_file_again()
            self.both(lambda journal: journal.aclose())
        self.runner.close()
        self.folder.cleanup()


BothJournals.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestBothJournals = BothJournals.TestCase

"""Any operations in any order: all journals agree, also once the file is opened again."""

import asyncio
import tempfile
from pathlib import Path

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from seedance_async import BudgetExceededError, JournalError
from seedance_async.journal import Intent, PostgresJournal, SQLiteJournal, read_entries
from seedance_async.journal.entry import STATES
from tests.journal.conftest import Clock, empty, intent
from tests.support.memory_journal import MemoryJournal

ANY_TEXT = st.text(max_size=12) | st.text(st.characters(), max_size=6)
KEYS = st.sampled_from(["a", "b", "c", "c "]) | ANY_TEXT
NUMBERS = st.none() | st.integers(-1, 2**63)
ATTEMPTS = st.integers(1, 6)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(sorted(STATES)),
        "request_id": st.none() | st.sampled_from(["r1", "r2"]) | ANY_TEXT,
        "credits_charged": NUMBERS,
        "error": st.none() | ANY_TEXT,
        "output_url": st.none() | ANY_TEXT,
    },
)


class BothJournals(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "run.db"
        self.clock = Clock()
        self.is_writing = False  # the clock stands still until what is recorded soon is on record

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
        except BudgetExceededError as error:
            return str(error)

    def both(self, act):
        if not self.is_writing:
            self.clock.now += 1.5
        self.is_writing = False
        in_memory = self.runner.run(self.outcome(self.memory, act))
        in_file = self.runner.run(self.outcome(self.file, act))
        assert in_file == in_memory
        return in_file

    @rule(key=KEYS, text=ANY_TEXT, credits=NUMBERS, limit=st.none() | st.integers(0, 100))
    def claim(self, key, text, credits, limit):
        limits = {} if limit is None else {"": limit}
        new = Intent(key, text, text, kind="k", credits=credits, limits=limits)
        self.both(lambda journal: journal.claim(new))

    @rule(key=st.sampled_from(["a", "b", "c", "c "]))
    def claim_plainly(self, key):
        self.both(lambda journal: journal.claim(intent(key)))

    @rule(key=st.sampled_from(["a", "b", "c"]), after=ATTEMPTS)
    def claim_again(self, key, after):
        self.both(lambda journal: journal.claim(intent(key), after=after))

    @rule(attempt=ATTEMPTS, changes=CHANGES)
    def record(self, attempt, changes):
        self.both(lambda journal: journal.record(attempt, **changes))

    @rule(attempt=ATTEMPTS, changes=CHANGES)
    def record_soon(self, attempt, changes):
        self.both(lambda journal: journal.record_soon(attempt, **changes))
        self.is_writing = True

    @rule(key=KEYS, size=NUMBERS, path=ANY_TEXT)
    def record_file(self, key, size, path):
        file = {"path": path, "size": size, "sha256": "a"}
        self.both(lambda journal: journal.record_file(key, **file))

    @rule()
    def count_the_money(self):
        for count in ("spent", "prices", "unpriced"):
            self.both(lambda journal, count=count: getattr(journal, count)())

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


SMALL = st.none() | st.integers(0, 2**40)  # no sum of these is too large for Postgres


class MemoryAndPostgres(RuleBasedStateMachine):
    """The numbers of attempts differ: they are named by their order."""

    dsn = None

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.journals = [
            MemoryJournal(shared=True, clock=self.clock),
            PostgresJournal(self.dsn, clock=self.clock),
        ]
        self.attempts = [[], []]
        for journal in self.journals:
            self.runner.run(journal.open())

    async def outcome(self, place, act):
        numbers = self.attempts[place]

        def name(number):
            return numbers[number] if number < len(numbers) else 2**60 + number

        try:
            found = await act(self.journals[place], name)
        except JournalError as error:
            return type(error), error.request_id
        except BudgetExceededError as error:
            return str(error)
        numbers += await self.new_attempts(place)
        return found

    async def new_attempts(self, place):
        known = set(self.attempts[place])
        return sorted({each.attempt for each in await self.journals[place].entries()} - known)

    async def entries(self, place):
        numbers = self.attempts[place]
        found = await self.journals[place].entries()
        return [attrs.evolve(each, attempt=numbers.index(each.attempt)) for each in found]

    def both(self, act):
        self.clock.now += 1.5
        mine, theirs = (self.runner.run(self.outcome(place, act)) for place in (0, 1))
        assert mine == theirs
        mine, theirs = (self.runner.run(self.entries(place)) for place in (0, 1))
        assert mine == theirs

    @rule(key=KEYS, text=ANY_TEXT, credits=SMALL, limit=st.none() | st.integers(0, 100))
    def claim(self, key, text, credits, limit):
        limits = {} if limit is None else {"": limit}
        new = Intent(key, text, text, kind=text, budget=text, credits=credits, limits=limits)

        async def act(journal, _):
            return await journal.claim(new) is not None

        self.both(act)

    @rule(key=st.sampled_from(["a", "b", "c"]), after=st.integers(0, 6))
    def claim_again(self, key, after):
        async def act(journal, name):
            return await journal.claim(intent(key), after=name(after)) is not None

        self.both(act)

    @rule(attempt=st.integers(0, 6), changes=CHANGES, credits=SMALL)
    def record(self, attempt, changes, credits):
        if "credits_charged" in changes:
            changes = {**changes, "credits_charged": credits}
        self.both(lambda journal, name: journal.record(name(attempt), **changes))

    @rule(keys=st.lists(KEYS, max_size=3))
    def forget(self, keys):
        self.both(lambda journal, _: journal.forget(keys))

    @rule(key=KEYS, path=ANY_TEXT)
    def record_file(self, key, path):
        file = {"path": path, "size": 1, "sha256": "a"}
        self.both(lambda journal, _: journal.record_file(key, **file))

    @rule()
    def count_the_money(self):
        async def act(journal, _):
            budgets = [await journal.spent(name) for name in ("", "a", "b")]
            return budgets, await journal.prices(), await journal.unpriced()

        self.both(act)

    def teardown(self):
        for journal in self.journals:
            self.runner.run(journal.aclose())
        self.runner.close()


def test_a_journal_in_postgres_agrees_with_one_in_memory(postgres_tables):
    class Fresh(MemoryAndPostgres):
        def __init__(self):
            empty(postgres_tables)
            super().__init__()

    Fresh.dsn = postgres_tables
    often = settings(max_examples=12, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(Fresh, settings=often)

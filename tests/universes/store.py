"""The disk of a universe, and the journals on it: all that the universes know of how they are kept.

It is the SDK's own journal, tables and transactions included, over one SQLite database in memory,
which outlives the processes. In place of the writer's thread, an event of the universe commits what
is queued. What was not committed when a process is killed is lost. A journal that is shared has a
writer in each process that lives, and these tell each other's owners by the universe's processes.
"""

import contextlib
import json
import queue
import sqlite3
from types import SimpleNamespace

import attrs

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal, owner, owners, sqlite
from seedance_async.journal.database import Database
from seedance_async.journal.schema import migrate
from seedance_async.journal.sqlite_statements import SQLiteStatements
from seedance_async.journal.writer import Writer, _resolve_futures, sign_of_life

_CLOSED = JournalError("the process was killed")


#: Notes whenever an end, an acceptance or an id changes.
_WATCHERS = """
CREATE TEMP TABLE broken (what TEXT);
CREATE TEMP TRIGGER end_changed AFTER UPDATE OF state ON main.jobs
    WHEN OLD.state IN ('succeeded', 'failed', 'cancelled') AND NEW.state <> OLD.state BEGIN
    INSERT INTO broken VALUES (NEW.key || ' was ' || OLD.state || ' and is ' || NEW.state);
END;
CREATE TEMP TRIGGER attempt_changed AFTER UPDATE ON main.attempts
    WHEN (OLD.state = 'accepted' AND NEW.state <> OLD.state)
    OR (OLD.request_id IS NOT NULL AND NEW.request_id IS NOT OLD.request_id
        AND NEW.job IS NOT NULL) BEGIN  -- the id of a forgotten or attached job is free
    INSERT INTO broken VALUES ('attempt ' || NEW.number || ' was ' || OLD.state || ', '
        || coalesce(OLD.request_id, '') || ', and is ' || NEW.state);
END;
"""


@attrs.frozen
class Row:
    """What the disk knows of one job."""

    key: str
    prompt: str
    state: str
    request_id: str | None
    credits: int | None
    text: str  # all values

    @property
    def is_unanswered(self):
        """Whether a later run reports that nobody knows the outcome."""
        return self.state in ("submitting", "uncertain") and self.request_id is None


@attrs.frozen
class Attempt:
    """What the disk knows of one POST."""

    prompt: str
    state: str
    request_id: str | None
    credits: int | None

    @property
    def is_open(self):
        """Whether it is named as one that may have been charged, though nobody has its id."""
        return self.state in ("sending", "uncertain") and self.request_id is None


class Disk:
    """One journal's file."""

    def __init__(self, world):
        self.world = world
        connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(connection)
        connection.execute("UPDATE secret SET value = ?", (world.rng.randbytes(32),))
        connection.executescript(_WATCHERS)
        self.connection = connection
        self._database = Database(SQLiteStatements(connection, "run.db"))
        self._writers = {}  # by process

    def journal(self):
        """A journal on this disk, for the process that runs now."""
        shared = self.world.plan.shared
        return SQLiteJournal("run.db", shared=shared, clock=lambda: self.world.clock)

    def rows(self):
        """What a later process would find."""
        return [_row(entry) for entry in self._database.entries()]

    def holds(self, request_id, *, attached=True):
        """Whether a later process would find this id; perhaps as that of an attached job."""
        return any(
            each.request_id == request_id
            and (attached or not each.prompt.startswith("(attached by its id"))
            for each in self.attempts()
        )

    def broken_rules(self):
        """The rules of the journal that were broken at any time, or are now."""
        rows = self.connection.execute(
            "SELECT what FROM broken UNION ALL "
            "SELECT key || ' is rejected, though attempt ' || attempts.number || ' is in doubt' "
            "FROM jobs JOIN attempts ON job = jobs.number WHERE jobs.state = 'rejected' "
            "AND attempts.state IN ('sending', 'uncertain')"
        )
        return [text for (text,) in rows.fetchall()]

    def attempts(self):
        """What a later process would find of each POST."""
        rows = self.connection.execute(
            "SELECT request, attempts.state, request_id, credits_charged FROM attempts "
            "JOIN jobs ON jobs.number = job ORDER BY attempts.number"
        )
        return [Attempt(json.loads(row[0])["prompt"], *row[1:]) for row in rows.fetchall()]

    def close(self):
        """The universe is over."""
        self._database.close()

    def is_full(self, process):
        """Whether nothing can be written now."""
        full = process.life.disk_full
        age = self.world.clock - process.starts
        return full is not None and full[0] <= age < full[1]

    # --- the writers ------------------------------------------------------------------------

    def delay(self):
        """Seconds that a write takes."""
        return self.world.rng.choice((0.0, 0.001, 0.01, 0.05))

    def open(self, writer):
        """Take the lock, as the writer's thread does first."""
        holders = [other for other in self._writers.values() if other.process.alive]
        if holders and not self.world.plan.shared:
            writer.opened.set_exception(JournalError("it is being written by another run"))
            writer.closed.set_result(None)
        else:
            self._writers[writer.process] = writer
            with _at(writer.process):
                writer.database.owners.register()
            writer.opened.set_result(None)
            writer.beat_later()

    def commit(self, writer, batch):
        """Run the operations in one transaction; each outcome."""

        def begin(*, writes):
            self._check(writer.process)
            writer.database.begin(writes=writes)

        with _at(writer.process):
            file = SimpleNamespace(database=writer.database, begin=begin)
            return writer._commit(file, batch)

    def release(self, writer):
        """Give the lock back."""
        writer.database.owners.leave()
        self._writers.pop(writer.process, None)

    def has(self, writer):
        """Whether this writer has the file open."""
        return self._writers.get(writer.process) is writer

    def flush(self, process):
        """Write what is queued, as the thread does once more when its loop is gone."""
        writer = self._writers.get(process)
        if writer is not None:
            writer.drain(acknowledge=False)

    def died(self, process):
        """A process was killed: what it waits for ends, without a trace."""
        writer = self._writers.pop(process, None)
        if writer is not None:
            writer.drop()

    def _check(self, process):
        if self.is_full(process):
            raise OSError("no space left on device")


class _EventWriter(Writer):
    """The writer of a journal, without a thread."""

    def __init__(self, path, loop, opener, *, beat):
        self._beat = beat
        self.process, self._scheduled = loop.process, False
        self.disk, self.world = self.process.world.disk, self.process.world
        self._path, self._loop, self._kept = path, loop, None
        self._queue = queue.SimpleQueue()
        self.opened, self.closed = loop.create_future(), loop.create_future()
        self.thread = SimpleNamespace(join=lambda: None)
        statements = SQLiteStatements(self.disk.connection, path, lambda: self.world.clock)
        self.database = Database(statements, is_shared=beat is not None)

    def start(self):
        self._later(self._open)

    def put(self, operation):
        self._queue.put(operation)
        self._wake()

    def stop(self):
        self._queue.put(None)
        self._wake()

    def beat_later(self):
        """Give signs of life from now on, as a thread with nothing else to do."""
        if self._beat is not None:
            self._later(self._give_sign, self._beat)

    def _give_sign(self):
        if self.disk.has(self):
            self._queue.put(sign_of_life())
            self.drain(acknowledge=True)
            self.beat_later()

    def _wake(self):
        if not self.process.alive:
            self.drop()
        elif not self._scheduled:
            self._scheduled = True
            self._later(self._write)

    def _later(self, work, seconds=0.0):
        def when_it_runs():  # its thread is stopped and killed with its process
            if not self.process.alive:
                self.drop()
            elif self.process.stopped_until > self.world.clock:
                self.world.at(self.process.stopped_until, when_it_runs)
            else:
                self.process.poke()
                self.world.current = self.process  # whose log its thread writes to
                work()
                self.world.current = None

        self.world.at(self.world.clock + seconds + self.disk.delay(), when_it_runs)

    def _open(self):
        if not self.opened.done():
            self.disk.open(self)

    def _write(self):
        self._scheduled = False
        self.drain(acknowledge=True)

    def drain(self, *, acknowledge):
        """Commit everything that is queued, and tell those who wait."""
        batch = self._queued()
        stopping, operations = None in batch, [each for each in batch if each is not None]
        if not self.process.effect():
            return _fail(operations)
        outcomes = self.disk.commit(self, operations) if operations else []
        if not self.process.effect():
            return _fail(operations)
        if acknowledge:
            told = [(each.future, outcome) for each, outcome in outcomes if each.future is not None]
            _resolve_futures(self._loop, told)
        if stopping:
            self.disk.release(self)
            if not self.closed.done():
                self.closed.set_result(None)

    def drop(self):
        """Forget everything that is queued."""
        if self._loop.is_closed():
            return
        _fail([each for each in self._queued() if each is not None])
        for future in (self.opened, self.closed):
            if not future.done():
                future.set_result(None)

    def _queued(self):
        batch = []
        while not self._queue.empty():
            batch.append(self._queue.get())
        return batch


def use_disks():
    """From now on, journals of this interpreter are on the disks of universes; undone by a call."""
    stack = contextlib.ExitStack()
    _replace(stack, sqlite, Writer=_EventWriter)
    _replace(stack, owners, os=SimpleNamespace(getpid=lambda: _here.number), this_place=_place)
    _replace(stack, owner, this_place=_place, _runs=lambda pid: _here.world.runs(pid))
    return stack.close


#: The process whose writer is at work.
_here = None


@contextlib.contextmanager
def _at(process):
    """Within, a process of a universe is the one that writes."""
    global _here
    before, _here = _here, process
    try:
        yield
    finally:
        _here = before


def _place():
    return _here.life.place


def _replace(stack, module, **values):
    for name, value in values.items():
        stack.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, value)


def _fail(operations):
    for each in operations:
        if each.future is not None and not each.future.done():
            each.future.set_exception(_CLOSED)
            each.future.exception()


def _row(entry):
    values = attrs.astuple(entry)
    prompt = json.loads(entry.request)["prompt"]
    return Row(
        entry.key, prompt, entry.state, entry.request_id, entry.credits_charged, repr(values)
    )

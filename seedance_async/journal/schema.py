"""The tables of an SQLite journal: how each version of them becomes the next.

- `jobs`: a row for a thing to be made, with what became of it last.
- `attempts`: a row for a POST, which is never removed. Its number is the fence: whoever writes of
  an attempt names the number that its claim returned. `cost` is what it was or may have been
  charged.
- `prices`: by kind, the most that was ever charged.
- `budgets`: what the attempts have cost, in all (the row named "") and by named budget. Triggers
  keep these sums, so no statement can forget them.
- `owners`: a row for an open journal, by which others tell whether it is alive.
- `turns`: when the next of all sessions may send, where a rate is known.
- `nudges`: ids that callbacks named where the job was not, for the session that has it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress

from seedance_async.api.prepared_request import load_request
from seedance_async.journal.entry import kind_text

#: "SDJL". Distinguishes a journal from other SQLite files.
APPLICATION_ID = 0x53444A4C

Migration = Sequence[str | Callable[[sqlite3.Connection], None]]


def _add_kinds(connection: sqlite3.Connection) -> None:
    """Give each migrated attempt the kind of its request, as far as that can be read."""
    rows = connection.execute("SELECT number, request FROM jobs").fetchall()
    for number, request in rows:
        with suppress(ValueError):
            kind = kind_text(load_request(json.loads(request)))
            connection.execute("UPDATE attempts SET kind = ? WHERE job = ?", (kind, number))


#: A charge that is not known counts as what was reserved for it.
_COST = "CASE state WHEN 'refused' THEN 0 ELSE coalesce(credits_charged, credits_reserved, 0) END"

#: What leads from each version of the tables to the next. The number of migrations is the latest
#: version. A released migration is never changed.
MIGRATIONS: tuple[Migration, ...] = (
    (
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY,  -- the order of creation
            key TEXT NOT NULL UNIQUE,
            fingerprint TEXT NOT NULL,
            request TEXT NOT NULL,
            state TEXT NOT NULL,
            request_id TEXT,
            credits_charged INTEGER,
            credits_reserved INTEGER,
            error TEXT,
            path TEXT,
            size INTEGER,
            sha256 TEXT,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL
        )""",
        "CREATE UNIQUE INDEX jobs_request_id ON jobs (request_id) WHERE request_id IS NOT NULL",
    ),
    ("ALTER TABLE jobs ADD COLUMN credits_doubtful INTEGER",),
    (
        "CREATE TABLE secret (value BLOB NOT NULL)",
        "INSERT INTO secret VALUES (randomblob(32))",
    ),
    (
        "ALTER TABLE jobs RENAME TO jobs_of_version_3",
        "DROP INDEX jobs_request_id",
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY,  -- the order of creation
            key TEXT NOT NULL UNIQUE,
            fingerprint TEXT NOT NULL,
            request TEXT NOT NULL,
            origin TEXT,
            attempt INTEGER NOT NULL,  -- the last one
            state TEXT NOT NULL,  -- of the job, as of all attempts
            error TEXT,
            output_url TEXT,
            path TEXT,
            size INTEGER,
            sha256 TEXT,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL
        )""",
        f"""CREATE TABLE attempts (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            job INTEGER,  -- NULL once the job is forgotten
            owner INTEGER,
            state TEXT NOT NULL,  -- sending, accepted, refused, uncertain
            kind TEXT NOT NULL DEFAULT '',
            budget TEXT,
            is_limited INTEGER NOT NULL DEFAULT 0,  -- whether it was made under a limit
            request_id TEXT,
            origin TEXT NOT NULL DEFAULT '',  -- the API that gave the id; '' where nobody knows
            credits_reserved INTEGER,
            credits_charged INTEGER,
            cost INTEGER NOT NULL GENERATED ALWAYS AS ({_COST}) STORED,
            error TEXT,
            claimed_at REAL NOT NULL,
            settled_at REAL
        )""",
        "CREATE UNIQUE INDEX attempts_request_id ON attempts (request_id, origin) "
        "WHERE request_id IS NOT NULL",
        "CREATE INDEX attempts_of_job ON attempts (job)",
        "CREATE INDEX attempts_sending ON attempts (state) WHERE state = 'sending'",
        "CREATE TABLE prices (kind TEXT PRIMARY KEY, credits INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE budgets (name TEXT PRIMARY KEY, spent INTEGER NOT NULL DEFAULT 0)",
        "INSERT INTO budgets (name) VALUES ('')",
        """CREATE TRIGGER attempt_added AFTER INSERT ON attempts
            WHEN NEW.cost <> 0 OR NEW.budget IS NOT NULL BEGIN
            INSERT OR IGNORE INTO budgets (name) VALUES (coalesce(NEW.budget, ''));
            UPDATE budgets SET spent = spent + NEW.cost WHERE name IN ('', NEW.budget);
        END""",
        """CREATE TRIGGER attempt_changed
            AFTER UPDATE OF state, credits_reserved, credits_charged ON attempts
            WHEN NEW.cost <> OLD.cost BEGIN
            UPDATE budgets SET spent = spent + NEW.cost - OLD.cost
                WHERE name IN ('', NEW.budget);
        END""",
        """CREATE TABLE owners (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            place TEXT NOT NULL,  -- the machine, its start, and the space of its process ids
            pid INTEGER NOT NULL,
            opened_at REAL NOT NULL,
            seen_at REAL NOT NULL
        )""",
        # An earlier attempt whose outcome was never known; then the last one.
        """INSERT INTO attempts (job, state, credits_reserved, claimed_at, settled_at)
            SELECT number, 'uncertain', credits_doubtful, created_at, updated_at
            FROM jobs_of_version_3 WHERE credits_doubtful > 0 ORDER BY number""",
        """INSERT INTO attempts (
                job, state, request_id, credits_reserved, credits_charged, error, claimed_at,
                settled_at)
            SELECT number,
                CASE state WHEN 'submitting' THEN 'sending' WHEN 'rejected' THEN 'refused'
                    WHEN 'uncertain' THEN 'uncertain' ELSE 'accepted' END,
                request_id, credits_reserved, credits_charged, error, created_at, updated_at
            FROM jobs_of_version_3 ORDER BY number""",
        """INSERT INTO jobs (
                number, key, fingerprint, request, attempt, state, error, path, size, sha256,
                created_at, updated_at)
            SELECT number, key, fingerprint, request,
                (SELECT max(number) FROM attempts WHERE job = old.number),
                CASE WHEN state = 'rejected' AND credits_doubtful > 0 THEN 'uncertain'
                    ELSE state END,
                error, path, size, sha256, created_at, updated_at
            FROM jobs_of_version_3 AS old ORDER BY number""",
        _add_kinds,
        """INSERT INTO prices SELECT kind, max(credits_charged) FROM attempts
            WHERE kind <> '' AND credits_charged IS NOT NULL GROUP BY kind""",
        # What forgotten jobs had cost was an entry of its own.
        "UPDATE attempts SET job = NULL WHERE job IN "
        "(SELECT number FROM jobs WHERE key = 'forgotten' AND fingerprint = 'forgotten')",
        "DELETE FROM jobs WHERE key = 'forgotten' AND fingerprint = 'forgotten'",
        "DROP TABLE jobs_of_version_3",
    ),
    (
        "CREATE TABLE turns (next_at REAL NOT NULL)",
        "INSERT INTO turns VALUES (0)",
        """CREATE TABLE nudges (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            job TEXT NOT NULL,  -- half of the nonce of its callbacks
            request_id TEXT NOT NULL,
            noted_at REAL NOT NULL,
            UNIQUE (job, request_id)
        )""",
        "CREATE INDEX nudges_noted ON nudges (noted_at)",
        "ALTER TABLE owners ADD COLUMN working_at REAL",  # when it last answered a roll call
    ),
)


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the tables to the latest version. If that fails, they are unchanged."""
    if version_of(connection) == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for steps in migrations[version_of(connection) :]:
            for step in steps:
                _take(connection, step)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def _take(connection: sqlite3.Connection, step: str | Callable[[sqlite3.Connection], None]) -> None:
    if isinstance(step, str):
        connection.execute(step)
    else:
        step(connection)

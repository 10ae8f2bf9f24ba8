"""The durable record of a run: what was sent, what was accepted and how each job ended.

When a run was killed and the same command is started again, the journal says which jobs are
running, which are finished, which were never sent, and for which that is unknown. To that end an
attempt is on disk before its POST, and an acceptance before the caller learns of it.

`Journal` is the contract, with the rules that every journal keeps; `SQLiteJournal` and
`PostgresJournal` implement it. This package knows nothing of sessions and makes no decision about
a job.
"""

from typing import TYPE_CHECKING

from seedance_async.journal.contract import (
    ATTACHED,
    CreditsInUseError,
    Intent,
    Journal,
    Nudging,
    RequestIdTakenError,
)
from seedance_async.journal.entry import Changes, JournalEntry, kind_in, kind_text, request_in
from seedance_async.journal.journal_file import move_journal, read_charges, read_entries
from seedance_async.journal.keys import Occurrences, fingerprint, keys_of, match_entries
from seedance_async.journal.nudges import Nudge
from seedance_async.journal.sqlite import SQLiteJournal

if TYPE_CHECKING:
    from seedance_async.journal.postgres import PostgresJournal

__all__ = [
    "ATTACHED",
    "Changes",
    "CreditsInUseError",
    "Intent",
    "Journal",
    "JournalEntry",
    "Nudge",
    "Nudging",
    "Occurrences",
    "PostgresJournal",
    "RequestIdTakenError",
    "SQLiteJournal",
    "fingerprint",
    "keys_of",
    "kind_in",
    "kind_text",
    "match_entries",
    "move_journal",
    "read_charges",
    "read_entries",
    "request_in",
]


def __getattr__(name: str) -> object:
    if name != "PostgresJournal":  # with the extra `postgres` behind it: only if needed
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seedance_async.journal.postgres import PostgresJournal

    return PostgresJournal

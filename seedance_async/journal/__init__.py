"""The durable record of a run: what was sent, what was accepted, what came of it.

A run that is killed at any instant and started again with the same command knows from here what
is running, what is finished, what was never sent and what cannot be known. So an intent is on
disk before its submit, and an acceptance before anyone is told of it.

`Journal` is the contract and `SQLiteJournal` its store. The package knows nothing of sessions and
decides about no job.
"""

from seedance_async.journal.contract import Journal
from seedance_async.journal.entry import Changes, JournalEntry
from seedance_async.journal.keys import Occurrences, fingerprint, match_entries
from seedance_async.journal.moving import move_journal
from seedance_async.journal.sqlite import SQLiteJournal, read_entries

__all__ = [
    "Changes",
    "Journal",
    "JournalEntry",
    "Occurrences",
    "SQLiteJournal",
    "fingerprint",
    "match_entries",
    "move_journal",
    "read_entries",
]

"""What processes do that open the same journals at the same moments."""

import asyncio

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal


def open_each(paths, together, told):
    """Open and close each journal when all have come that far; tell what went wrong."""
    problems = []
    for path in paths:
        together.wait(60)
        try:
            asyncio.run(_open(path))
        except JournalError as error:
            problems.append(repr(error))
    told.put(problems)


async def _open(path):
    journal = SQLiteJournal(path, shared=True)
    await journal.open()
    await journal.aclose()

"""A process that claims a key in Postgres, and stops itself in the middle of the transaction.

    python -m tests.journal.postgres_process DSN KEY idle|busy

It prints "stopping" and stops itself with the lock held: "idle" where the server knows that it is
waited for, "busy" where it does not. Once it goes on it prints the attempt.
"""

import asyncio
import signal
import sys
import threading

from seedance_async.journal import Intent, PostgresJournal
from seedance_async.journal.database import Database
from seedance_async.journal.postgres import target


class Stopping:
    """Takes the place of `Database.claim`, once."""

    def __init__(self, how):
        self.how, self.claim = how, Database.claim

    def __call__(self, database, intent, after):
        Database.claim = self.claim
        database.owners.check()  # by now it has the lock
        if self.how == "busy":
            database.sql.run("SELECT 1")  # on its way, and nobody has asked for its rows
        print("stopping", flush=True)
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return database.claim(intent, after)


async def main(dsn, key, how):
    limit = "200ms" if how == "idle" else "0"
    target._SETTINGS["idle_in_transaction_session_timeout"] = limit
    stopping = Stopping(how)
    Database.claim = lambda *arguments: stopping(*arguments)
    journal = PostgresJournal(dsn)
    await journal.open()
    print(await journal.claim(Intent(key, "f", "{}")), flush=True)
    await journal.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

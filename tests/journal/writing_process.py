"""Writes a journal as fast as it can until it is killed, telling each write once it returned.

Of each job it claims the key, records the acceptance and, without waiting, the end; a line
"<key> <state>" is printed for what the journal has acknowledged.
"""

import asyncio
import sys

from seedance_async.journal import SQLiteJournal


def tell(*words):
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def work(journal, run, worker):
    number = 0
    while True:
        number += 1
        key = f"{run}-{worker}-{number}"
        await journal.claim(key, fingerprint="f" * 32, request='{"prompt": "' + "x" * 300 + '"}')
        tell(key, "submitting")
        await journal.update(key, state="queued", request_id=f"req_{key}", credits_charged=number)
        tell(key, "queued")
        journal.update_soon(key, state="succeeded", path=f"{key}.mp4", size=number, sha256=key)
        if number % 5 == 0:
            await journal.flush()
            tell(key, "succeeded")


async def main(path, run):
    journal = SQLiteJournal(path)
    await journal.open()
    tell("open")
    await asyncio.gather(*(work(journal, run, worker) for worker in range(8)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

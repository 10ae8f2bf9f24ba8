"""Writes a journal as fast as it can until it is killed, and prints each write that returned.

For each job it claims the key, records the acceptance and, without waiting, the result. A line
"<key> <state>" is printed for each write that the journal acknowledged.
"""

import asyncio
import sys

from seedance_async.journal import SQLiteJournal


def report(*words):
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def work(journal, run, worker):
    number = 0
    while True:
        number += 1
        key = f"{run}-{worker}-{number}"
        await journal.claim(key, fingerprint="f" * 32, request='{"prompt": "' + "x" * 300 + '"}')
        report(key, "submitting")
        await journal.update(key, state="queued", request_id=f"req_{key}", credits_charged=number)
        report(key, "queued")
        journal.update_soon(key, state="succeeded", path=f"{key}.mp4", size=number, sha256=key)
        if number % 5 == 0:
            await journal.flush()
            report(key, "succeeded")


async def main(path, run):
    journal = SQLiteJournal(path)
    await journal.open()
    report("open")
    await asyncio.gather(*(work(journal, run, worker) for worker in range(8)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

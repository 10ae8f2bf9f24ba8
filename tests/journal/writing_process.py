"""Writes a journal as fast as it can until it is killed, and prints each write that returned.

For each job it claims the key, records the acceptance and, without waiting, the result. A line
"<key> <state>" is printed for each write that the journal acknowledged.
"""

import asyncio
import sys

from seedance_async.journal import Intent, SQLiteJournal


def report(*words):
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def work(journal, run, worker):
    number = 0
    while True:
        number += 1
        key = f"{run}-{worker}-{number}"
        request = '{"prompt": "' + "x" * 300 + '"}'
        attempt = await journal.claim(Intent(key, "f" * 32, request))
        report(key, "submitting")
        accepted = {"request_id": f"req_{key}", "credits_charged": number}
        await journal.record(attempt, state="queued", **accepted)
        report(key, "queued")
        journal.record_soon(attempt, state="succeeded", output_url=f"{key}.mp4")
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

"""A worker of the fleet: makes the tasks of a queue until it is told to stop.

    SEEDANCE_QUEUE=postgresql://… python worker.py FOLDER

Start one on each machine. FOLDER is one that all of them see, or the URL of a bucket. What a worker
has when it stops, or dies, others go on with.
"""

import asyncio
import logging
import os
import signal
import sys

from seedance_async.engines.dbos import SeedanceWorker


async def main(results: str) -> None:
    url = os.environ["SEEDANCE_QUEUE"]
    # After ten seconds without a sign of life others take over, which suits a trial; 60 is usual.
    async with SeedanceWorker(url, results, max_in_flight=50, lease=10.0) as worker:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, worker.leave)
        await worker.serve()


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(message)s")
    asyncio.run(main(sys.argv[1]))

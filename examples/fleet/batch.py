"""A batch for the fleet: gives the prompts of a file to a queue, and tells what becomes of them.

    SEEDANCE_QUEUE=postgresql://… python batch.py PROMPTS RUN

Each line is a prompt. Run it again under the same name, here or elsewhere, and nothing is bought
again. The exit code is 1 if a prompt has no video.
"""

import asyncio
import os
import sys
from pathlib import Path

from seedance_async import GenerationRequest
from seedance_async.engines.dbos import SeedanceQueue


async def main(prompts: Path, run: str) -> int:
    lines = (line.strip() for line in prompts.read_text(encoding="utf-8").splitlines())
    requests = [GenerationRequest(line, duration=4, resolution="480p") for line in lines if line]
    without_video = 0
    async with SeedanceQueue(os.environ["SEEDANCE_QUEUE"]) as queue:
        await queue.enqueue(requests, run=run)
        async for outcome in queue.results(run=run):
            print(f"{outcome.key}: {outcome.state} {outcome.file or outcome.error}", flush=True)
            without_video += outcome.file is None
    return 1 if without_video else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), sys.argv[2])))

"""A file of prompts in, a folder of videos out.

    python examples/bulk.py PROMPTS FOLDER

Each line is a prompt. Prompts that fail are listed at the end and do not stop the others; the exit
code is 1 if any failed.
"""

import asyncio
import sys
from pathlib import Path

from seedance_async import DownloadError, GenerationRequest, Job, SeedanceError, SeedanceSession


async def save(job: Job, folder: Path, problems: list[str]) -> None:
    try:
        print(f"saved {await job.download(folder, overwrite=True)}")
    except DownloadError as error:  # the video was made and paid for: download it later by its id
        problems.append(str(error))
    except SeedanceError as error:  # the job failed
        problems.append(str(error))


async def main(prompts: Path, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    lines = (line.strip() for line in prompts.read_text(encoding="utf-8").splitlines())
    requests = (GenerationRequest(line, duration=4, resolution="480p") for line in lines if line)
    async with SeedanceSession(max_in_flight=10) as session, asyncio.TaskGroup() as downloads:
        room = asyncio.Semaphore(20)  # finished videos that may wait to be downloaded
        async for job in session.as_completed(requests):
            await room.acquire()
            saving = downloads.create_task(save(job, folder, problems))
            saving.add_done_callback(lambda _: room.release())
    print(f"credits charged: {session.stats().credits_charged}, problems: {len(problems)}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]))))

"""A film of shots, each of which begins where the one before ends.

    python examples/film.py PROMPTS FOLDER

Each line of PROMPTS is a shot. Run it again after a failure, or after it was killed: it goes on
with what it has bought. Change a line, and that shot and all that come after it are made anew.
Needs the extra `media`, and against the vendor's API `storage`: SEEDANCE_UPLOAD is the bucket for
the pictures between shots, such as s3://my-bucket/inputs.
"""

import asyncio
import os
import sys
from pathlib import Path

from seedance_async import GenerationRequest, Job, SeedanceSession
from seedance_async.media import EmulatorUploader, StoreUploader
from seedance_async.media.joining import join_clips


def uploader() -> EmulatorUploader | StoreUploader:
    """Where the API can fetch the last frame of a shot."""
    bucket = os.environ.get("SEEDANCE_UPLOAD")
    return StoreUploader(bucket) if bucket else EmulatorUploader(os.environ["SEEDANCE_BASE_URL"])


async def main(prompts: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shots: list[Job] = []
    journal = folder / "run.db"
    async with SeedanceSession(journal=journal, uploader=uploader()) as session:
        for prompt in prompts.read_text(encoding="utf-8").splitlines():
            before = [shots[-1].frame("last")] if shots else []
            request = GenerationRequest(prompt, duration=4, media_urls=before)
            shots.append(await session.submit(request))  # waits for the shot before
            print(f"shot {len(shots)}: {shots[-1].request_id}")
        videos = [
            await job.download(folder / f"{number:02}.mp4", overwrite=True)
            for number, job in enumerate(shots, 1)
        ]
    film = await asyncio.to_thread(join_clips, videos, folder / "film.mp4", overwrite=True)
    print(f"{film.path}: {film.frames} frames")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))

"""A pipeline of two stages with backpressure all the way.

    python examples/pipeline.py PROMPTS [MOST]

Stage one makes a cheap draft of every prompt. Stage two makes the good ones again in full quality.
Neither stage runs ahead of the other: a prompt is read only when a slot is free, and a draft is
judged only when stage two has room. After MOST videos both stages end; what is running then goes on
and is waited for when the session is left.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from seedance_async import GenerationRequest, Job, JobState, Model, SeedanceSession


def drafts(prompts: Path) -> Iterator[GenerationRequest]:
    with prompts.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield GenerationRequest(
                    line.strip(), model=Model.SEEDANCE_2_0_FAST, duration=4, resolution="480p"
                )


def is_good(draft: Job) -> bool:
    """Stands for a person, or for a model that scores the draft's video."""
    return draft.state is JobState.SUCCEEDED


async def finals(session: SeedanceSession, prompts: Path) -> AsyncIterator[GenerationRequest]:
    async for draft in session.as_completed(drafts(prompts)):
        if is_good(draft) and draft.request is not None:
            yield GenerationRequest(draft.request.prompt, duration=8, resolution="720p")


async def main(prompts: Path, most: int) -> None:
    async with SeedanceSession(max_in_flight=4) as session:
        made = 0
        async for video in session.as_completed(finals(session, prompts)):
            prompt = video.request.prompt if video.request else ""
            print(f"{video.state}: {prompt}")
            made += 1
            if made == most:
                break


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else sys.maxsize))

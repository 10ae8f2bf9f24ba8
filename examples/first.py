"""One video, in ten lines."""

import asyncio

from seedance_async import GenerationRequest, SeedanceSession


async def main() -> None:
    async with SeedanceSession() as session:
        request = GenerationRequest("A river in autumn", duration=4, resolution="480p")
        job = await session.submit(request)
        print(f"{job.request_id} is {job.state} and cost {job.credits_charged} credits")
        path = await job.download(".")  # named by its id: the next run keeps this one
        print(f"saved {path}")


asyncio.run(main())

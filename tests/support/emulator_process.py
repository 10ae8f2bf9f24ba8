"""The emulator in a separate process."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

import aiohttp

_PROGRAM = """
import json, sys
from seedance_async.emulator import EmulatorOptions, run
run(EmulatorOptions(**json.loads(sys.argv[1])), ready=lambda e: print(e.url, e.api_key, flush=True))
"""


class EmulatorProcess:
    """Its address, and its statistics over HTTP."""

    def __init__(self, url, api_key):
        self.url, self.api_key = url, api_key

    async def stats(self):
        return await self._get("stats")

    async def ledger(self):
        """The entries of the ledger, in order."""
        return (await self._get("ledger"))["entries"]

    async def _get(self, name):
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.url}/_emulator/{name}") as response,
        ):
            return await response.json()


@asynccontextmanager
async def emulator_process(**options):
    """An emulator in another process, which is stopped at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", _PROGRAM, json.dumps(options),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    url, api_key = (await process.stdout.readline()).decode().split()
    try:
        yield EmulatorProcess(url, api_key)
    finally:
        process.terminate()
        await process.wait()
